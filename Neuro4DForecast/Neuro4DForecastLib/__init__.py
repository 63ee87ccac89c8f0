"""Parts of the Neuro4DForecast module. Nothing here imports torch or nibabel at the top of a file."""
