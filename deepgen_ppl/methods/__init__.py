"""What `fit(method=...)` takes beyond gradient steps, one method a file."""
