"""The networks: numpy in, numpy out, no Beam.

record       what a model is: weights, preprocessing contract, labels, golden data
weights      where its weights are found, fetched and checked
graphs       ONNX graphs built from published weights
prepare      pixels as a net wants them
runtime      the device, and one net that all threads share
detectors    pictures -> faces, by `yunet`, `mtcnn`, a person's own net (`boxes`) or none; `views` brings them to size
crops        faces -> crops by a model's contract, and back
crop_net     a net that takes crops
classifiers  crops -> probabilities, by one net or the mean of several
landmarks68  crops -> the 68 points of each face; `face_api` reads their net's published weights
pose         points -> how large the face is and which way the head is turned
quality      crops -> brightness, contrast, sharpness
golden       is what was loaded what the record promises?
registry     one model a process, however many threads ask

None of them is imported here, so that a model's record can be read without ONNX Runtime.
"""

import os

# From 1.29 on ONNX Runtime reports to its publisher unless this is set before it is imported; nothing leaves the
# machine by default here. Who wants it can set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
