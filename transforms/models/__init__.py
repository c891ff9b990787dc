"""The networks: numpy in, numpy out, no Beam.

record       what a model is: weights, preprocessing contract, labels, golden data
weights      where its weights are found, fetched and checked
graphs       ONNX graphs built from published weights
runtime      the device, and one net that all threads share
detectors    pictures -> faces
crops        faces -> crops by a classifier's contract
classifiers  crops -> probabilities
quality      crops -> brightness, contrast, sharpness
golden       is what was loaded what the record promises?
registry     one model a process, however many threads ask

Nothing is imported here, so that a model's table can be read without ONNX Runtime.
"""
