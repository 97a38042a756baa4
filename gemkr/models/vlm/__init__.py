"""A vision-language model that reads picture and question itself and writes clues."""
