// What an ONNX file says of itself. ONNX Runtime Web does not tell, so this reads it from the file, which is a
// protobuf message: fields, each a tag (number and kind) and a value. Only the model's own fields are looked at.

const METADATA_PROPS = 14; // of ModelProto: a StringStringEntryProto each, 1 is the key and 2 the value
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
    const kind = tag & 7;
    const length = kind === 0 ? void varint() ?? 0 : kind === 2 ? varint() : kind === 1 ? 8 : kind === 5 ? 4 : NaN;
    if (!(at + length <= bytes.length)) throw new Error("this is no ONNX file");
    yield { number: Math.floor(tag / 8), value: bytes.subarray(at, at + length) };
    at += length;
  }
}
