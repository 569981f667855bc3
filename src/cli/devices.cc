// `loam devices`: what this machine hands out besides CPUs and memory, who has it, and why not.
#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

// "17/train (anna)", with its part where it has not all of the device.
std::string holders_of(const Json& device) {
  std::vector<std::string> holders;
  for (const Json& holder : device["holders"].as_array()) {
    std::string text =
        holder["target"].as_string() + " (" + holder["user"].as_string() + ")";
    if (holder["of"].as_int(1) > 1)
      text += " " + plain_text(holder["parts"]) + "/" + plain_text(holder["of"]);
    holders.push_back(std::move(text));
  }
  return join(holders, ", ");
}

std::string why_of(const Json& device, std::int64_t now_ms) {
  std::string why = device["reason"].as_string();
  if (const std::int64_t slices = device["time_slices"].as_int(1); why.empty() && slices > 1)
    why = std::to_string(slices) + " time slices, not enforced";
  const Json& drained = device["drained"];
  if (drained.is_object())
    why += " (by " + drained["by"].as_string() + ", " +
           format_age(drained["since_ms"].as_int(), now_ms) + " ago)";
  return why;
}

std::string measured(const Json& value, std::int64_t of, const std::string& unit) {
  return value.is_null() ? "" : std::to_string(value.as_int() / of) + unit;
}

// What NVIDIA's driver measures now; nothing where it measures nothing.
void print_gpus(Console& console, const Json& answer) {
  Table table{{"GPU", "TEMPERATURE", "POWER", "LIMIT", "CLOCK", "MEMORY USED", "ECC ERRORS"},
              {},
              {1, 2, 3, 4, 5, 6}};
  for (const Json& device : answer["devices"].as_array()) {
    const Json& gpu = device["gpu"];
    if (!gpu.is_object() || device.has("parent")) continue;
    const bool knows_memory = gpu.has("memory_used_bytes");
    table.rows.push_back({device["id"].as_string(), measured(gpu["temperature_c"], 1, " C"),
                          measured(gpu["power_mw"], 1000, " W"),
                          measured(gpu["power_limit_mw"], 1000, " W"),
                          measured(gpu["sm_clock_mhz"], 1, " MHz"),
                          knows_memory ? format_bytes(gpu["memory_used_bytes"]) : "",
                          measured(gpu["ecc_uncorrected"], 1, "")});
  }
  const Json& driver = answer["driver"];
  if (driver.is_object())
    console.print("\nNVIDIA driver " + printable(driver["version"].as_string()) + ", CUDA " +
                  printable(driver["cuda"].as_string()));
  if (!table.rows.empty()) console.print_text(format_table(table));
}

void print_devices(Console& console, const Json& answer) {
  Table table{{"DEVICE", "KIND", "MODEL", "MEMORY", "STATE", "HELD BY", "WHY"}, {}, {3}};
  const std::int64_t now_ms = wall_ms();
  for (const Json& device : answer["devices"].as_array()) {
    const bool has_memory = device["memory_bytes"].as_int() > 0;
    table.rows.push_back({device["id"].as_string(), device["kind"].as_string(),
                          device["model"].as_string(),
                          has_memory ? format_bytes(device["memory_bytes"]) : "",
                          device["state"].as_string(), holders_of(device),
                          why_of(device, now_ms)});
  }
  if (table.rows.empty())
    console.print("no devices besides CPUs and memory (the node's configuration declares some)");
  else
    console.print_text(format_table(table));
  print_gpus(console, answer);
  const Json& huge = answer["huge_pages"];
  if (huge["total_bytes"].as_int() > 0)
    console.print("huge pages  " + format_bytes(huge["given_bytes"]) + " of " +
                  format_bytes(huge["total_bytes"]) + " given, of " +
                  format_bytes(huge["page_bytes"]) + " each");
  if (const std::string& pinned = answer["cpus"]["pinned"].as_string(); !pinned.empty())
    console.print("CPUs        " + printable(pinned) + " pinned, " +
                  printable(answer["cpus"]["shared"].as_string()) + " shared");
}

int list_devices(Context& context) {
  const Answer answer = ask(context, "GET", "/v1/devices");
  if (answer.status != kExitOk) return answer.status;
  if (context.json())
    context.console.print_text(answer.body.pretty() + "\n");
  else
    print_devices(context.console, answer.body);
  return kExitOk;
}

int drain(Context& context) {
  const std::string device = context.arguments.value("device");
  const Answer answer =
      ask(context, "POST", "/v1/devices/" + device + "/drain",
          Json::object({{"reason", context.arguments.value("reason", "drained by hand")}}));
  if (answer.status != kExitOk) return answer.status;
  context.console.print(device + " is handed out no more; who has it keeps it");
  return kExitOk;
}

int resume(Context& context) {
  const std::string device = context.arguments.value("device");
  const Answer answer = ask(context, "POST", "/v1/devices/" + device + "/resume");
  if (answer.status != kExitOk) return answer.status;
  context.console.print(device + " is handed out again");
  return kExitOk;
}

}  // namespace

Verb devices_verb() {
  Verb drain_verb{"drain",
                  "hand a device out no more; who has it keeps it",
                  "loam devices drain camera-0 --reason 'lens broken'",
                  {{"--reason", "TEXT", "what those who wait for it are told"}},
                  {{"device", "its id, as `loam devices` lists it"}},
                  false,
                  drain,
                  {}};
  Verb resume_verb{"resume",
                   "hand a drained device out again",
                   "loam devices resume camera-0",
                   {},
                   {{"device", "its id, as `loam devices` lists it"}},
                   false,
                   resume,
                   {}};
  Verb verb;
  verb.name = "devices";
  verb.summary = "GPUs and declared devices: what each is, who has it, and why not";
  verb.options = {json_option()};
  verb.examples = "loam devices\nloam devices --json\nloam devices drain GPU-0 --reason 'fan'";
  verb.run = list_devices;
  verb.verbs = {drain_verb, resume_verb};
  return verb;
}

}  // namespace loam::cli
