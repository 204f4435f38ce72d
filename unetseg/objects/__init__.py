"""Objects: what a network says of each voxel -> one id per object, in images of any size."""
