// What face-api.js's own network gives: crops of 112x112x3 uint8 RGB from standard input, 136 float32 each to standard
// output. Run by make_golden.py: node face_api_landmarks.cjs SHARD MANIFEST
const { readFileSync, writeSync } = require("fs");
const faceapi = require("face-api.js");

const [, , shard, manifest] = process.argv;
const bytes = readFileSync(shard);
const numbers = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const net = new faceapi.FaceLandmark68Net();
net.loadFromWeightMap(faceapi.tf.io.decodeWeights(numbers, JSON.parse(readFileSync(manifest))[0].weights));

const crops = readFileSync(0);
const size = 112 * 112 * 3;
for (let at = 0; at < crops.length; at += size) {
  const crop = faceapi.tf.tensor3d(Float32Array.from(crops.subarray(at, at + size)), [112, 112, 3]);
  const points = Float32Array.from(net.forwardInput(new faceapi.NetInput([crop])).dataSync());
  writeSync(1, Buffer.from(points.buffer));
}
