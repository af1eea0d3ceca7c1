"""What only the files of a private Chroma allow: checking, healing, scrubbing, copying them."""
