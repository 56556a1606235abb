"""Models of ours as folders that other libraries load without this package."""
