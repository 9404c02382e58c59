"""`codexd top`: what there is to show, how it is drawn, and who draws it, each by itself."""
