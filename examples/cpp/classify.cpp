// Prints what a model says of raw samples: percentages of classes or labels, the most probable first, or a number:
//
//   classify model.torchscript samples.raw
//
// samples.raw holds one sample after the other, each of its own size: a line of text, then the numbers of C x H x W or
// C x D x H x W. The line has the dtype, the sizes and, for a model that takes it, the spacing in mm along D, H, W:
//
//   int16 1 99 512 512 3.0 0.564453 0.564453
//
// `python -m tools.predict ... --raw samples.raw` writes it. The model brings each sample to its own size.

#include <torch/script.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// The model's input, from its file's input.txt: "int16 CDHW spacing_mm".
struct Input {
  std::string dtype, axes;  // "CHW" or "CDHW"
  bool spaced;              // whether it also takes a spacing
};

Input parse_input(const std::string& text) {
  std::istringstream words(text);
  Input input;
  std::string second_input;
  words >> input.dtype >> input.axes >> second_input;
  input.spaced = second_input == "spacing_mm";
  return input;
}

torch::ScalarType scalar_type(const std::string& dtype) {
  static const std::map<std::string, torch::ScalarType> dtypes = {
      {"uint8", torch::kUInt8}, {"int16", torch::kInt16}, {"uint16", torch::kUInt16}, {"float32", torch::kFloat32}};
  if (!dtypes.count(dtype)) throw std::runtime_error("the model takes '" + dtype + "', which is unknown here");
  return dtypes.at(dtype);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The next sample as the model's inputs, (1, C, ...) and its spacing; empty at the end of the file.
std::vector<torch::jit::IValue> read_sample(std::istream& file, const Input& input, const std::string& path) {
  std::string line, dtype;
  if (!std::getline(file, line)) return {};
  std::istringstream words(line);
  words >> dtype;
  std::vector<int64_t> shape{1};
  for (int64_t n; shape.size() <= input.axes.size() && words >> n;) shape.push_back(n);
  const std::vector<double> spacing{std::istream_iterator<double>(words), {}};
  const bool sizes_valid = std::all_of(shape.begin(), shape.end(), [](int64_t n) { return n > 0 && n < 1 << 20; });
  if (dtype != input.dtype || shape.size() != input.axes.size() + 1 || !sizes_valid ||
      spacing.size() != (input.spaced ? input.axes.size() - 1 : 0))
    throw std::runtime_error(path + " has a line '" + line.substr(0, 80) + "', expected: " + input.dtype + " and sizes " +
                             input.axes + (input.spaced ? " and the spacing in mm" : ""));
  const auto x = torch::empty(shape, scalar_type(dtype));
  file.read(static_cast<char*>(x.data_ptr()), static_cast<std::streamsize>(x.nbytes()));
  if (static_cast<size_t>(file.gcount()) != x.nbytes())
    throw std::runtime_error(path + " ends within a sample: " + std::to_string(file.gcount()) + " bytes, expected " +
                             std::to_string(x.nbytes()));
  std::vector<torch::jit::IValue> inputs{x};
  if (input.spaced) inputs.emplace_back(torch::tensor(spacing, torch::kFloat64));
  return inputs;
}

// A name with its control characters escaped: it may hold a terminal's escape sequence.
std::string shown(const std::string& name) {
  std::string text;
  for (size_t i = 0; i < name.size(); ++i) {
    unsigned char c = name[i];
    const bool of_two_bytes = c == 0xC2 && i + 1 < name.size() && (name[i + 1] & 0xE0) == 0x80;
    if (of_two_bytes) c = name[++i];
    char code[8];
    std::snprintf(code, sizeof code, "\\u%04x", c);
    text += (c < 0x20 && c != '\n') || c == 0x7F || of_two_bytes ? std::string(code) : std::string(1, name[i]);
  }
  return text;
}

void print_percentages(const torch::Tensor& probabilities, const std::vector<std::string>& classes) {  // (K,)
  const auto [values, order] = probabilities.sort(/*dim=*/0, /*descending=*/true);
  for (int64_t i = 0; i < order.size(0); ++i)
    std::printf("  %9.5f %%  %s\n", 100 * values[i].item<double>(), shown(classes.at(order[i].item<int64_t>())).c_str());
}

// A number and the bounds of its interval, with their names and unit.
void print_numbers(const torch::Tensor& numbers, const std::vector<std::string>& names) {  // (3,)
  for (int64_t i = 0; i < numbers.size(0); ++i)
    std::printf("  %.9g  %s\n", numbers[i].item<double>(), shown(names.at(i)).c_str());
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: classify model.torchscript samples.raw");
  torch::jit::ExtraFilesMap metadata{{"classes.txt", ""}, {"input.txt", ""}, {"target.txt", ""}};
  if (std::ifstream(argv[1], std::ios::binary).peek() == '{')  // one line of JSON, with the reason
    throw std::runtime_error(std::string(argv[1]) + " holds no model, as this format was left out: read it");
  auto model = torch::jit::load(argv[1], torch::kCPU, metadata);
  const auto input = parse_input(metadata.at("input.txt"));
  const auto names = lines_of(metadata.at("classes.txt"));  // of the output's columns
  const auto target = metadata.at("target.txt");            // empty: one class of several
  const bool of_number = target == "regression\n" || target == "log_regression\n";
  std::ifstream file(argv[2], std::ios::binary);
  if (!file) throw std::runtime_error(std::string(argv[2]) + " can't be read");

  torch::InferenceMode no_gradients;
  for (int n = 0;; ++n) {
    const auto sample = read_sample(file, input, argv[2]);
    if (sample.empty() && n > 0) break;
    if (sample.empty()) throw std::runtime_error(std::string(argv[2]) + " is empty");
    const auto output = model.forward(sample);  // a tuple, if the model also flags unlike samples
    const auto first = output.isTuple() ? output.toTuple()->elements()[0] : output;
    const auto answer = first.toTensor()[0];  // (K,)
    std::printf("sample %d\n", n);
    if (of_number)
      print_numbers(answer, names);
    else
      print_percentages(answer, names);
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << shown(error.what()) << "\n";
  return 1;
}
