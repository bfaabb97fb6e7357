"""What pages say of their results: a module a chapter, whose functions fill the names in its text.

`summary` gives the sentences of the answer and the summary, `scope` what was trained and what limits it.
A sentence says only what was measured, whatever the parameters are.
"""
