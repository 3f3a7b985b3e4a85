"""Networks as files that apps load, each compared with Keras before it gets its name."""
