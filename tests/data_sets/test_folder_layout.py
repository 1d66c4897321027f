"""What the folders of a data set mean: splits, classes, and everything that is left out."""

import logging
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from folder_lab import fill, write
from PIL import Image

from genets.core.errors import DataError
from genets.core.output_folder import MARKER, make_folder
from genets.data import check_output_folder, load_data
from genets.data.split_names import SPLIT_OF

SPLITS = ("train", "validation", "test")


def sizes(data):
    return [len(getattr(data, split)) for split in SPLITS]


def names_of(split, root):
    return {str(split.images.paths[i]).removeprefix(f"{root}/") for i in split.positions}


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "Valid", "EVAL"),
        ("Train", "dev", "evaluation"),
        ("training", "VAL", "Test"),
    ],
)
def test_usual_names_of_splits_in_any_case(tmp_path, names):
    for name, count in zip(names, (6, 3, 2), strict=True):
        fill(tmp_path / name, count=count)
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert sizes(data) == [12, 6, 4]
    for name in names:
        assert f"images ({name})" in data.description


def test_a_missing_split_is_cut_off_and_described(tmp_path):
    fill(tmp_path / "Training", count=10)
    fill(tmp_path / "Testing", count=3)
    data = load_data(tmp_path, 8)
    assert sizes(data) == [16, 4, 6]
    assert data.description == (
        f"{tmp_path}: 2 classes (cat, dog); train: 16 images (Training); "
        "validation: 4 images (cut off the training images); test: 6 images (Testing)"
    )


def test_the_description_is_logged_for_commands(tmp_path, caplog):
    (fill(tmp_path) / "notes.txt").write_text("")
    with caplog.at_level(logging.INFO, "genets.data.folder"):
        data = load_data(tmp_path, 8)
    assert [record.getMessage() for record in caplog.records] == data.description.splitlines()
    assert len(data.description.splitlines()) == 2


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "val", "dev"):
        fill(tmp_path / name)
    with pytest.raises(DataError, match="has dev, val, which all name the validation split"):
        load_data(tmp_path, 8)


def test_a_split_without_class_folders_does_not_hide_the_one_that_has_some(tmp_path):
    for name in ("train", "val"):
        fill(tmp_path / name)
    write(tmp_path / "dev" / "0.png")
    data = load_data(tmp_path, 8)
    assert "validation: 20 images (val)" in data.description
    assert "1 folder beside the split folders (dev)" in data.description


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        (("train", "test"), "has test, train but no train folder with class folders"),
        (("Train", "Dev"), "has Dev, Train but no train folder with class folders"),
    ],
)
def test_splits_that_hold_images_are_no_classes(tmp_path, flat, message):
    fill(tmp_path, classes=flat)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path, 8)


def test_train_images_without_classes_beside_a_test_split(tmp_path):
    write(tmp_path / "train" / "0.png")
    fill(tmp_path / "test")
    with pytest.raises(DataError, match="has test, train but no train folder with class folders"):
        load_data(tmp_path, 8)


def test_folders_that_hold_only_folders_are_no_classes(tmp_path):
    fill(tmp_path)
    fill(tmp_path / "extra", classes=("a", "b"))
    fill(tmp_path / "backup", classes=("old",))
    fill(tmp_path / "fold 2", classes=("a", "b"))
    (tmp_path / "fold 2" / "list.csv").write_text("")
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert "3 folders that hold only folders (backup, extra, fold 2)" in data.description


def test_nothing_but_folders_of_folders(tmp_path):
    for name in ("part 1", "part 2"):
        fill(tmp_path / name)
    with pytest.raises(DataError, match=r"no class folders \(part 1, part 2 hold only folders\)"):
        load_data(tmp_path, 8)


def test_a_folder_around_the_data_set(tmp_path):
    """As in many archives."""
    fill(tmp_path / "dataset" / "train")
    with pytest.raises(DataError, match=r"\(dataset holds only folders\).* try .*/dataset$"):
        load_data(tmp_path, 8)


def test_classes_with_a_folder_of_images_and_a_file(tmp_path):
    """Tiny ImageNet has such folders."""
    for name in ("cat", "dog"):
        fill(tmp_path / name, classes=("images",), count=4)
        (tmp_path / name / "boxes.txt").write_text("")
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert sum(sizes(data)) == 8


def test_a_class_of_a_stored_split_may_hold_only_folders(tmp_path):
    fill(tmp_path / "train")
    for name in ("cat", "dog"):
        fill(tmp_path / "val" / name, classes=("images",), count=2)
    assert sizes(load_data(tmp_path, 8))[1] == 4


HIDDEN = (
    ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails", "lost+found", ".git", "#recycle",
    "$RECYCLE.BIN", "System Volume Information", "__pycache__",
)  # fmt: skip


@pytest.mark.parametrize("place", ["", "cat", "cat/nested", "dog"])
@pytest.mark.parametrize("split", ["", "train"])
def test_hidden_and_system_folders_are_left_out_at_every_level(tmp_path, split, place):
    root = tmp_path / split
    fill(root)
    write(root / "cat" / "nested" / "x.png", seed=7)
    before = load_data(tmp_path, 8)
    for hidden in HIDDEN:
        for copied in ("copy.png", "deep/copy.png"):
            write(root / place / hidden / copied)
    for name in ("._0.png", ".0.png.swp.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / place / name).write_bytes(b"\0\5\26\7")
    data = load_data(tmp_path, 8)
    assert data.fingerprint == before.fingerprint
    for part in SPLITS:
        assert names_of(getattr(data, part), tmp_path) == names_of(getattr(before, part), tmp_path)
    assert f"{len(HIDDEN) + 5} hidden or system files or folders" in data.description


def test_a_hidden_folder_can_itself_be_the_data_set(tmp_path):
    assert sum(sizes(load_data(fill(tmp_path / ".cache" / "@eaDir"), 8))) == 20


@pytest.mark.parametrize("extension", ["jfif", "gif", "avif", "jp2", "tga", "JPE", "ico", "qoi"])
def test_everything_that_pillow_reads_is_an_image(tmp_path, extension):
    fill(tmp_path)
    try:
        Image.new("RGB", (16, 16), "red").convert("P" if extension == "gif" else "RGB").save(
            tmp_path / "cat" / f"x.{extension}"
        )
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow does not write .{extension}")
    data = load_data(tmp_path, 8)
    assert sum(sizes(data)) == 21
    assert "left out" not in data.description
    assert sum(len(y) for part in SPLITS for _, y in getattr(data, part).batches(4)) == 21


def test_other_files_are_counted_by_extension(tmp_path):
    fill(tmp_path)
    for number in range(7):
        (tmp_path / "cat" / f"{number}.HEIC").write_bytes(b"x")
    for name in ("clip.mp4", "drawing.eps", "README", "dog/weather.h5"):
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "stray.png")
    (line,) = load_data(tmp_path, 8).description.splitlines()[1:]
    assert line.startswith(f"{tmp_path}: left out: 7 files .heic (cat/0.HEIC, cat/1.HEIC, ")
    assert ", ...); " in line
    for text in (
        "1 file .mp4 (clip.mp4)",
        "1 file .eps (drawing.eps)",
        "1 file .h5 (dog/weather.h5)",
        "1 file without an extension (README)",
        "1 image beside the class folders (stray.png)",
    ):
        assert text in line


def test_a_class_whose_files_are_all_left_out(tmp_path):
    fill(tmp_path)
    (tmp_path / "cow").mkdir()
    (tmp_path / "cow" / "0.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image of class cow; left out: 1 file \.heic \(cow/0"):
        load_data(tmp_path, 8)


RESULT_FILES = (
    "study.toml",
    "run.lock",
    "contract.json",
    "selected.json",
    "eval.json",
    "results/weights.safetensors",
)


@pytest.mark.parametrize("file", RESULT_FILES)
@pytest.mark.parametrize("place", ["runs/x", "x", "cat/x", "runs/a/b/x"])
@pytest.mark.parametrize("split", ["", "train"])
def test_results_of_genets_inside_the_data_are_left_out(tmp_path, split, place, file):
    root = fill(tmp_path / split)
    before = load_data(tmp_path, 8)
    write(root / place / "curves-loss.png")
    (root / place / file).parent.mkdir(exist_ok=True)
    (root / place / file).write_text('{"accuracy": {}}' if file == "eval.json" else "")
    if file.startswith("results/"):
        write(root / place / "results" / "y.png")
        (root / place / "curves-loss.png").unlink()
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert data.fingerprint == before.fingerprint
    assert "1 folder with results of genets" in data.description


def make_results(folder, kind, *, marked):
    """A folder as a training run or `genets eval` leaves it."""
    folder.mkdir()
    write(folder / "curves.png", seed=9)
    if kind == "run":
        (folder / "run.lock").touch()
        (folder / "checkpoints").mkdir()
        write(folder / "results" / "picture.png", seed=9)
        (folder / "results" / "weights.safetensors").touch()
    else:
        (folder / "eval.json").write_text('{"accuracy": {}}')
    if marked:
        (folder / MARKER).touch()


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("kind", ["run", "report"])
@pytest.mark.parametrize("layout", ["classes", "splits"])
@pytest.mark.parametrize("name", SPLIT_OF)
def test_results_with_the_name_of_a_split_are_no_split(tmp_path, name, layout, kind, marked):
    fill(tmp_path / "TRAIN" if layout == "splits" else tmp_path)
    before = load_data(tmp_path, 8)
    make_results(tmp_path / name, kind, marked=marked)
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert data.fingerprint == before.fingerprint
    assert f"1 folder with results of genets ({name})" in data.description


@pytest.mark.parametrize("name", SPLIT_OF)
def test_a_marked_folder_is_no_split_also_before_its_first_file(tmp_path, name):
    fill(tmp_path)
    before = load_data(tmp_path, 8)
    make_folder(tmp_path / name)
    assert load_data(tmp_path, 8).fingerprint == before.fingerprint


def test_a_split_with_a_report_beside_its_classes_is_a_split(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=3)
    before = load_data(tmp_path, 8)
    (tmp_path / "test" / "eval.json").write_text('{"accuracy": {}}')
    data = load_data(tmp_path, 8)
    assert sizes(data) == sizes(before)
    assert data.fingerprint == before.fingerprint


@pytest.mark.parametrize("name", ["eval", "runs", "trained"])
def test_results_beside_splits_do_not_change_what_is_wrong(tmp_path, name):
    fill(tmp_path, classes=("train", "test"))
    make_results(tmp_path / name, "run", marked=True)
    with pytest.raises(DataError, match="has test, train but no train folder with class folders"):
        load_data(tmp_path, 8)
    shutil.rmtree(tmp_path / "train")
    fill(tmp_path / "test")
    with pytest.raises(DataError, match=r"no train folder$"):
        load_data(tmp_path, 8)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"top1": 0.9}', "[" * 100_000])
@pytest.mark.parametrize("name", ["eval.json", "rank.json", "profile.json", "comparison.json"])
def test_a_users_file_with_the_name_of_a_report_removes_no_class(tmp_path, name, text):
    fill(tmp_path)
    before = load_data(tmp_path, 8)
    (tmp_path / "cat" / name).write_text(text)
    data = load_data(tmp_path, 8)
    assert data.class_names == ("cat", "dog")
    assert data.fingerprint == before.fingerprint


def test_class_names_in_two_unicode_forms_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Blüte") for form in ("NFC", "NFD"))
    assert composed != decomposed
    fill(tmp_path / "train", classes=(composed, "Blz"))
    fill(tmp_path / "test", classes=(decomposed, "Blz"), count=3)
    data = load_data(tmp_path, 8)
    assert data.class_names == ("Blz", composed)
    assert sizes(data)[2] == 6
    labels = Counter(data.test.images.labels[i] for i in data.test.positions)
    assert labels == {0: 3, 1: 3}
    assert all(
        ("Blz" in path) == (label == 0)
        for path, label in zip(data.test.images.paths, data.test.images.labels, strict=True)
    )


def test_two_folders_in_two_unicode_forms_are_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "Blüte") for form in ("NFC", "NFD")]
    fill(tmp_path, classes=(*forms, "cat"), count=5)
    data = load_data(tmp_path, 8)
    assert data.class_names == (forms[0], "cat")
    assert sum(sizes(data)) == 15


def test_the_order_of_classes_does_not_depend_on_the_unicode_form(tmp_path):
    """The decomposed ü would stand before z."""
    for form in ("NFC", "NFD"):
        fill(tmp_path / form, classes=(unicodedata.normalize(form, "Blüte"), "Blz"), count=5)
    one, other = (load_data(tmp_path / form, 8).class_names for form in ("NFC", "NFD"))
    assert one == other == ("Blz", unicodedata.normalize("NFC", "Blüte"))


@pytest.mark.parametrize("name", ["~nouser_genets/photos", Path("~nouser_genets/photos")])
def test_a_home_of_an_unknown_user(name):
    with pytest.raises(DataError, match="folder ~nouser_genets/photos does not exist"):
        load_data(name, 8)
    check_output_folder(name, "out")
