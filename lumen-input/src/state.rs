//! What outlives the plane: the layout of the memory that lumend keeps.
