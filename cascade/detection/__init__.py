"""Objects in images: windows through a cascade, boxes back."""
