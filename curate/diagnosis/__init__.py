"""Find out why a graded trajectory failed. `coa analyse` is the stage, `coa page report` the page.

rules       apply the rules in their order; the rules on form and grade
answers     compare a wrong answer with an accepted one: does it say the same, or rule it out?
same_names  write names, numbers and dates in one way
facts       the rules on facts: find the wrong one, also of two that are compared, and its cause
untitled    the rules where no gold titles say what the facts on the way are
queries     judge whether a query was a good one
case        a wrong trajectory as the rules on facts see it, and the findings on its claims
claims      read thoughts as claims: what is stated, and how the policy came by it
gold        collect what had to be found, from gold titles and the corpus

The causes themselves are listed in coa/records/causes.py.
"""
