"""How sure it is: intervals over examples, tests, the set of methods that may be the best, and the winner's curse."""
