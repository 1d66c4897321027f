"""The accuracy model: predicts the metric of any structure from the results of trials.

The metric is a score on the validation images (see `Metric`). Its *value* is the metric with the
sign that makes a higher value the better one. A *gain* is the difference between the value of a
structure and that of the MasterNet.

Read the files in this order:

1. `model`: the public class `AccuracyModel`, its predictions and warnings.
2. `observations`: trial results as numbers, and the noise between repeats.
3. `features`: the effects that a gain is a sum of, as columns of a design matrix.
4. `gaussian`: Bayesian linear regression in closed form, without any knowledge of networks.
5. `prior`: the effects that the default regression expects before any trial.
6. `bayes`: the default regression, made of 2 to 5.
7. `paper_formula`: the literal formula of the paper (section 4.2).
8. `round_trials`: the rounds of a search, and the fit to them.
9. `undecided`: choices of a block that the trials leave open, and how many more trials they need.
"""
