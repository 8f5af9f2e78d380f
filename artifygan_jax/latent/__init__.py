"""What can be done with a StyleGAN2 generator's latents: draw, mix, swap, edit and find them."""
