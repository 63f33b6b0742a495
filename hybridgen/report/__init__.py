"""One HTML file about runs; reads run folders alone."""
