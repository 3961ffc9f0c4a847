"""The accuracy protocol of `benchmarks/operators.py`: tasks, models, trainings, records, verdicts."""
