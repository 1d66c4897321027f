"""Selection: the structures with the highest predicted metric whose measured latency fits.

Read the files in this order:

1. `chain`: a search space as a chain of stages, with the latency and gain of each option.
2. `frontier`: the best predicted structures for every latency, by dynamic programming.
3. `alternatives`: the best structures of other block types.
4. `improvement`: the candidates that are expected to improve most on trained ones.
5. `scaled`: the MasterNet with all widths scaled, a candidate of a search from trained weights.
6. `network_latency`: a latency beside that of the MasterNet, and whether it meets a budget.
7. `measured`: the measured networks of a target, which are measured until a budget is decided.
8. `fastest`: whether any structure meets the budget.
9. `learned_latency`: the table and the aim, corrected by the measurements of a search.
10. `proposals`: structures that are worth measuring, by prediction.
11. `screening_choice`: structures that are worth a short training.
12. `budget_search`: measures the proposed structures until some meet the budget.
13. `resolutions`: candidates of several resolutions.
"""
