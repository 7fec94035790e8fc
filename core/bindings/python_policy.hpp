#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>

#include "paella/error.hpp"
#include "paella/sched/policy.hpp"

namespace paella::bindings {

// A policy written in Python: any object with push, pop, peek and __len__ as paella.Policy has
// them. Every method needs the interpreter's lock, which the caller holds.
class PythonPolicy final : public sched::Policy {
 public:
  explicit PythonPolicy(pybind11::object policy) : policy_(std::move(policy)) {
    for (const char* method : {"push", "pop", "peek", "__len__"}) {
      if (!pybind11::hasattr(policy_, method)) {
        throw Error("a policy needs push, pop, peek and __len__, " + type_name(policy_) + " has no " +
                    method);
      }
    }
    push_ = policy_.attr("push");
    pop_ = policy_.attr("pop");
    peek_ = policy_.attr("peek");
  }

  void push(const sched::Ready& entry) override {
    if (static_cast<std::size_t>(entry.job) >= waiting_.size()) waiting_.resize(entry.job + 1);
    waiting_[entry.job] = true;
    peeked_ = -1;
    using pybind11::literals::operator""_a;
    push_(entry.job, entry.model, entry.remaining_us, "due_us"_a = entry.due_us,
          "total_us"_a = entry.total_us, "deadline_us"_a = entry.deadline_us);
  }

  std::int32_t pop() override {
    const std::int32_t popped = job(pop_(), "pop");
    if (peeked_ >= 0 && popped != peeked_) {
      throw Error(type_name(policy_) + ".pop() took job " + std::to_string(popped) +
                  " after peek() had named job " + std::to_string(peeked_));
    }
    waiting_[popped] = false;
    peeked_ = -1;
    return popped;
  }
  std::int32_t peek() const override { return peeked_ = job(peek_(), "peek"); }
  std::size_t size() const override { return pybind11::len(policy_); }

 private:
  static std::string type_name(const pybind11::handle& object) {
    return pybind11::str(pybind11::type::handle_of(object).attr("__name__"));
  }

  std::int32_t job(const pybind11::object& answer, const char* method) const {
    try {
      const auto named = answer.cast<std::int32_t>();
      if (named >= 0 && static_cast<std::size_t>(named) < waiting_.size() && waiting_[named]) {
        return named;
      }
      throw Error(type_name(policy_) + "." + method + "() named job " + std::to_string(named) +
                  ", which is not waiting");
    } catch (const pybind11::cast_error&) {
      throw Error(type_name(policy_) + "." + method + "() must return a job's number, not " +
                  std::string(pybind11::repr(answer)));
    }
  }

  pybind11::object policy_;
  pybind11::object push_;
  pybind11::object pop_;
  pybind11::object peek_;
  std::vector<bool> waiting_;  // by job
  mutable std::int32_t peeked_ = -1;
};

}  // namespace paella::bindings
