"""From product texts to vectors, through the OpenAI API or a compatible endpoint."""
