#include "cli/device_request.h"

#include <charconv>

#include "base/leading_zero.h"
#include "base/text.h"

namespace loam::cli {
namespace {

constexpr int kCountMax = 1024;

Result<int> parse_count(const std::string& option, const std::string& text) {
  if (leads_with_zero(text)) return fail(ErrorCode::invalid, option + ": " + leading_zero_problem(text));
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 0 || count > kCountMax)
    return fail(ErrorCode::invalid, option + ": expected a number from 0 to 1024, found '" +
                                        printable(text) + "'");
  return count;
}

}  // namespace

Result<Json> parse_device_request(const std::string& option, const std::string& kind,
                                  const std::string& text) {
  Json request = Json::object({{"kind", kind}, {"count", 1}});
  const auto parts = split(text, ',');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto equals = parts[i].find('=');
    const std::string key = parts[i].substr(0, equals);
    const std::string value =
        equals == std::string::npos ? std::string() : parts[i].substr(equals + 1);
    if (i == 0 && equals == std::string::npos) {
      request.set("count", LOAM_TRY(parse_count(option, key)));
    } else if (key == "model" && !value.empty()) {
      if (!is_utf8(value)) return fail(ErrorCode::invalid, option + ": the model is no UTF-8 text");
      request.set("model", value);
    } else if (key == "memory") {
      auto size = parse_size(value);
      if (!size) return in_context(option + ": memory", size.error());
      request.set("memory_bytes", *size);
    } else if (key == "share") {
      if (value != "time-slice")
        return fail(ErrorCode::invalid, option + ": share: expected time-slice, found '" +
                                            printable(value) + "'");
      request.set("share", value);
    } else {
      return fail(ErrorCode::invalid, option + " '" + printable(text) +
                                          "': expected a number, then model=M, memory=SIZE or share=time-slice, "
                                          "such as 2,model=H100,memory=40GiB");
    }
  }
  return request;
}

Result<void> add_device_requests(const Arguments& arguments, Json& command) {
  Json devices = Json::array();
  const auto add = [&](Json request) {
    if (request["count"].as_int() > 0) devices.push(std::move(request));
  };
  if (arguments.has("gpus"))
    add(LOAM_TRY(parse_device_request("--gpus", "gpu", arguments.value("gpus"))));
  for (const std::string& text : arguments.list("device")) {
    // NAME, NAME=2, NAME=2,model=M, NAME,model=M
    const auto end = text.find_first_of("=,");
    const std::string name = text.substr(0, end);
    if (name.empty() || !is_utf8(text))
      return fail(ErrorCode::invalid,
                  "--device '" + printable(text) + "': expected NAME or NAME=2");
    const std::string rest = end == std::string::npos ? "1"
                             : text[end] == '='       ? text.substr(end + 1)
                                                      : "1" + text.substr(end);
    add(LOAM_TRY(parse_device_request("--device " + printable(name), name, rest)));
  }
  if (devices.size() > 0) command.set("devices", std::move(devices));
  if (arguments.flag("pin")) command.set("pin", true);
  if (arguments.has("hugepages")) {
    auto size = parse_size(arguments.value("hugepages"));
    if (!size) return in_context("--hugepages", size.error());
    command.set("huge_bytes", *size);
  }
  return {};
}

}  // namespace loam::cli
