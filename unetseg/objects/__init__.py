"""Objects: what a network says of each voxel -> one id per object, in images of any size."""

# A mask with fewer values names classes, as far as its looks can tell.
LEAST_OBJECTS = 8
