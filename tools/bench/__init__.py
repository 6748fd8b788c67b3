"""Benchmarks of the pipeline: works that do the same take turns, and docs/performance.md shows their medians.

`groups` says which groups there are; each is a module whose `run` measures it. `timing` lets works take turns, after a
check that their results agree; `results` keeps what was measured, as JSON; `page` and `figures` show it.
"""
