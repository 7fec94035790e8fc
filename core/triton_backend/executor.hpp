#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "description.hpp"
#include "paella/time.hpp"

namespace paella::triton {

using Bytes = std::span<unsigned char>;
using ConstBytes = std::span<const unsigned char>;

// One instance of a model. The server executes in it one request at a time, in a thread of its own.
class ModelInstance {
 public:
  virtual ~ModelInstance() = default;
  // Returns when the outputs are there: how much later than they should have been, where a GPU is
  // simulated. Throws Error if the request fails.
  virtual TimeNs execute(const std::vector<ConstBytes>& inputs,
                         const std::vector<Bytes>& outputs) = 0;
};

// What all models of a server are executed on.
class Executor {
 public:
  virtual ~Executor() = default;
  // Models and their instances may be made in several threads at once.
  virtual void load(std::size_t model) = 0;
  virtual std::unique_ptr<ModelInstance> make_instance(std::size_t model) = 0;
};

// Executes nothing: outputs repeat the inputs. What is left is the server's own cost.
std::unique_ptr<Executor> make_empty(const Description& description);
// The simulated GPU, in step with the wall clock.
std::unique_ptr<Executor> make_simulated(const Description& description);
// The machine's GPU.
std::unique_ptr<Executor> make_cuda(const Description& description);

// The answer of what computes nothing.
void repeat(const std::vector<ConstBytes>& inputs, const std::vector<Bytes>& outputs);

}  // namespace paella::triton
