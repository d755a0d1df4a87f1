"""What `forgectl doctor` judges: facts in, findings out.

`findings` has the vocabulary, `checks` every check there is, `pod`, `node` and `servers` the judgements of one subject
each, `judge` all of them together.  Pure: no I/O and no clock.  No facts make it raise, and what was not looked at is
said to be so, never taken for right.
"""
