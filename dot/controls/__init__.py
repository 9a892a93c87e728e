"""Does a method's gain come from what it claims? Runs that differ in one thing, compared pairwise by seed.

`config` says what is compared, `running` trains and measures what is left to do, `measuring` gives the numbers of a
run, and `results` compares them and says what came out.
"""
