"""A page to go through the cases of a data set, its mistakes first, and to correct their labels."""
