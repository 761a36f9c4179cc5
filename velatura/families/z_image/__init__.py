"""Z-Image and Z-Image-Turbo: a flow transformer that reads text and picture as one sequence, told by Qwen3-4B."""
