"""`python -m resnet_keras` is the command line."""

from resnet_keras.cli import main

main()
