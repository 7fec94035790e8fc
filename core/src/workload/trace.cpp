#include "paella/workload/trace.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>

#include "paella/error.hpp"

namespace paella::workload {
namespace {

template <class... Format>
void append(std::string& text, Format... value_and_format) {
  char buffer[512];  // the largest double has 309 digits before the point
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value_and_format...).ptr;
  text.append(buffer, end);
}

// Reads one number that ends where the text or a blank does; what is left stays in `text`.
template <class Number>
bool take(std::string_view& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return text.empty() || text.front() == ' ';
}

class Parser {
 public:
  Parser(std::string_view text, std::int32_t models, const std::string& name)
      : text_(text), models_(models), name_(name) {}

  Trace parse() {
    while (!text_.empty()) {
      ++line_number_;
      const std::size_t end = text_.find('\n');
      if (end == text_.npos) fail("does not end in a newline, so the trace may be cut off");
      line(text_.substr(0, end));
      text_.remove_prefix(end + 1);
    }
    if (line_number_ == 0) throw Error(name_ + ": the trace has no jobs");
    return std::move(trace_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(name_ + ": line " + std::to_string(line_number_) + " " + what);
  }

  void line(const std::string_view content) {
    std::string_view rest = content;
    if (!rest.empty() && rest.back() == '\r') rest.remove_suffix(1);
    std::int64_t model = 0;
    double due_us = 0;
    const bool well_formed = take(rest, model) && !rest.empty() &&
                             (rest.remove_prefix(1), take(rest, due_us)) && rest.empty();
    if (!well_formed) fail("is not a model index and a due time in µs with a space between");
    if (model < 0 || model >= models_) {
      fail("asks for model " + std::to_string(model) + ", the mix has models 0 to " +
           std::to_string(models_ - 1));
    }
    if (!std::isfinite(due_us) || due_us < 0) {
      fail("has a due time that is not a finite number from 0 on");
    }
    if (!trace_.due_us.empty() && due_us < trace_.due_us.back()) {
      fail("is due before the line above it");
    }
    if (trace_.size() == static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
      fail("is one job too many");
    }
    trace_.model.push_back(static_cast<std::int32_t>(model));
    trace_.due_us.push_back(due_us);
  }

  std::string_view text_;
  std::int32_t models_;
  const std::string& name_;
  std::size_t line_number_ = 0;
  Trace trace_;
};

}  // namespace

std::string format_trace(const Trace& trace) {
  std::string text;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    append(text, trace.model[i]);
    text += ' ';
    append(text, trace.due_us[i], std::chars_format::fixed, 6);
    text += '\n';
  }
  return text;
}

Trace parse_trace(std::string_view text, std::int32_t models, const std::string& name) {
  return Parser(text, models, name).parse();
}

Trace rescaled(Trace trace, double iat_us) {
  if (!std::isfinite(iat_us) || iat_us < 0) {
    throw Error("the mean inter-arrival time to rescale to must be a finite number from 0 on");
  }
  const double first_us = trace.size() == 0 ? 0 : trace.due_us.front();
  const double span_us = trace.size() == 0 ? 0 : trace.due_us.back() - first_us;
  const double factor = iat_us * static_cast<double>(trace.size()) / span_us;
  if (!std::isfinite(factor)) {
    throw Error("a trace whose jobs are all due at once has no rate to rescale");
  }
  for (double& due_us : trace.due_us) due_us = first_us + (due_us - first_us) * factor;
  return trace;
}

}  // namespace paella::workload
