"""A training run in a folder, which continues after interruptions (`genets train`).

settings.py      its settings
folder.py        its folder, and the results folder in it
inputs.py        its images and its network
decided_recipe.py  the recipe fields that short trainings decide
trainer.py       the training
state.py         the network, the optimizer, the average of the weights, the position
epoch_log.py     the log, and event files for TensorBoard
distributed.py   processes that train together
"""
