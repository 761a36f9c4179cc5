"""From words to tokens: weighted prompts as data, tokenizers, chunks of 75."""
