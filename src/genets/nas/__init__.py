"""Trials, regression, selection, the study and the search that joins them.

The search, from its settings to its result:

    new_study.py      the settings of a new study
    checks.py         checks that write nothing
    search.py         all phases in order
    context.py        the state that the phases share
    laboratory.py     times, trains, scores and exports networks
    image_loading.py  the images; study_recipes.py, the recipe fields that are `auto`
    team_training.py  several processes that train the MasterNet or the winner
    rounds.py         the rounds of a search; round_start.py, the MasterNet of a round
    winner.py         the final training, the test and the export
    result.py         the result
    reselect.py       another budget or target; selected_folder.py, its folder

Folders, in the order in which a search needs them:

    settings/ study/ plan/ latencies/ master/ trials/ accuracy/ selection/ candidates/ rivals/

`workers/` runs trials and candidates. `snapshot.py`, `warnings.py` and `faults.py` read a study
without changing it, and `watch/` has the state of a running search. `phase_names.py` names the
phases.
"""
