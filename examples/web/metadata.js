// The metadata of an ONNX file. ONNX Runtime Web gives no access to them, so this reads them from the file, which is a
// protobuf message: fields, each a tag (field number and wire type) and a value. Only top-level fields are read.

const METADATA_PROPS = 14; // of ModelProto: one StringStringEntryProto per entry: field 1 is the key, field 2 the value
const text = new TextDecoder();

export function readMetadata(bytes) {
  for (const { number, value } of fields(bytes)) {
    if (number !== METADATA_PROPS) continue;
    const entry = Object.fromEntries([...fields(value)].map((field) => [field.number, text.decode(field.value)]));
    if (entry[1] === "metadata.json") return JSON.parse(entry[2]);
  }
  throw new Error("the model's file does not say what it takes: was it made by this project's export stage?");
}

function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (at >= bytes.length) throw new Error("this is no ONNX file");
      value += (bytes[at] & 127) * shift;
      if (!(bytes[at++] & 128)) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const wireType = tag & 7;
    const length =
      wireType === 0 ? void varint() ?? 0 : wireType === 2 ? varint() : wireType === 1 ? 8 : wireType === 5 ? 4 : NaN;
    if (!(at + length <= bytes.length)) throw new Error("this is no ONNX file");
    yield { number: Math.floor(tag / 8), value: bytes.subarray(at, at + length) };
    at += length;
  }
}
