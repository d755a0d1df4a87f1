"""The programs an operator starts: forge-manager and forgectl."""
