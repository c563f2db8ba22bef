"""What the library knows of languages: word lists as data, one file a language, and the rules of word forms beside."""
