// Prints what a model says of raw samples, best class first:
//
//   classify model.torchscript samples.raw
//
// samples.raw holds one sample after the other as the model takes them, without a header: C x H x W or C x D x H x W
// numbers each, of the dtype that the model's file names (`python -m tools.predict ... --raw samples.raw` writes it).

#include <torch/script.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// What the file says of its input: the dtype's name, then the sizes of a sample.
struct Input {
  torch::ScalarType dtype;
  std::vector<int64_t> shape;  // C, H, W or C, D, H, W
};

Input parse_input(const std::string& text) {
  static const std::map<std::string, torch::ScalarType> dtypes = {
      {"uint8", torch::kUInt8}, {"int8", torch::kInt8},   {"int16", torch::kInt16},
      {"uint16", torch::kUInt16}, {"int32", torch::kInt32}, {"float32", torch::kFloat32}};
  std::istringstream words(text);
  std::string dtype;
  words >> dtype;
  if (!dtypes.count(dtype)) throw std::runtime_error("the model takes '" + dtype + "', which is unknown here");
  return {dtypes.at(dtype), std::vector<int64_t>(std::istream_iterator<int64_t>(words), {})};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<char> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " can't be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

torch::Tensor as_samples(std::vector<char>& bytes, Input input, const std::string& path) {  // (N, C, ...)
  const auto count = std::accumulate(input.shape.begin(), input.shape.end(), int64_t{1}, std::multiplies<>());
  const auto size = count * static_cast<int64_t>(torch::elementSize(input.dtype));
  if (bytes.empty() || bytes.size() % size != 0)
    throw std::runtime_error(path + " has " + std::to_string(bytes.size()) + " bytes, expected a multiple of " +
                             std::to_string(size));
  input.shape.insert(input.shape.begin(), static_cast<int64_t>(bytes.size()) / size);
  return torch::from_blob(bytes.data(), input.shape, input.dtype);
}

void print_percentages(const torch::Tensor& probabilities, const std::vector<std::string>& classes) {  // (K,)
  const auto [values, order] = probabilities.sort(/*dim=*/0, /*descending=*/true);
  for (int64_t i = 0; i < order.size(0); ++i)
    std::printf("  %9.5f %%  %s\n", 100 * values[i].item<double>(), classes.at(order[i].item<int64_t>()).c_str());
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: classify model.torchscript samples.raw");
  torch::jit::ExtraFilesMap about{{"classes.txt", ""}, {"input.txt", ""}};
  auto model = torch::jit::load(argv[1], torch::kCPU, about);
  auto bytes = read_bytes(argv[2]);
  const auto x = as_samples(bytes, parse_input(about.at("input.txt")), argv[2]);
  const auto classes = lines_of(about.at("classes.txt"));

  torch::InferenceMode no_gradients;
  const auto said = model.forward({x});
  const auto probabilities = said.isTuple() ? said.toTuple()->elements()[0].toTensor() : said.toTensor();  // (N, K)
  for (int64_t n = 0; n < probabilities.size(0); ++n) {
    std::printf("sample %lld\n", static_cast<long long>(n));
    print_percentages(probabilities[n], classes);
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}
