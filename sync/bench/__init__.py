"""How fast each step is beside the least work that any program must do for it: `leadledger bench`."""
