// The Standard Workload Format, version 2 (Feitelson, "The Standard Workload Format", Parallel
// Workloads Archive; Chapin et al. 1999): 18 fields a line, -1 for what is not known. Lines may be
// cut: what is not there is not known.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "sim/reading.h"
#include "sim/values.h"

namespace loam::sim {
namespace {

constexpr std::size_t kFields = 18;

// From 0: the format's own numbers less one.
enum Field : std::size_t {
  kNumber = 0,
  kSubmit = 1,
  kRunTime = 3,
  kAllocatedProcessors = 4,
  kRequestedProcessors = 7,
  kRequestedTime = 8,
  kRequestedMemory = 9,  // KiB for each processor
  kStatus = 10,
  kUser = 11,
  kGroup = 12,
  kPrecedingJob = 16,
};

struct Fields {
  std::array<std::string_view, kFields> texts;
  std::size_t count = 0;
  std::string_view at(std::size_t field) const { return field < count ? texts[field] : "-1"; }
};

Fields split_fields(std::string_view line) {
  Fields fields;
  for (std::size_t at = 0; (at = line.find_first_not_of(" \t", at)) != std::string_view::npos;) {
    const std::size_t end = std::min(line.find_first_of(" \t", at), line.size());
    if (fields.count < kFields) fields.texts[fields.count] = line.substr(at, end - at);
    ++fields.count;
    at = end;
  }
  return fields;
}

class SwfReader {
 public:
  explicit SwfReader(Reading& reading) : reading_(reading) {}

  bool take(std::string_view line) {
    Fields fields = split_fields(line);
    if (fields.count < 2) {
      reading_.finding("found 1 field, expected 18, at least the job's number and its submission");
      return true;
    }
    if (fields.count > kFields) ++longer_;
    fields.count = std::min(fields.count, kFields);
    if (!is_unknown(fields.at(kPrecedingJob)) && fields.at(kPrecedingJob) != "0") ++preceded_;
    return take_job(fields);
  }

  void finish() {
    if (longer_ > 0)
      reading_.note("lines of more than 18 fields: " + std::to_string(longer_) +
                    "; the others are left out");
    if (preceded_ > 0)
      reading_.note("jobs that name a preceding one: " + std::to_string(preceded_) +
                    "; submitted when the trace says, not after it");
  }

 private:
  bool take_job(const Fields& fields) {
    const std::string_view status = fields.at(kStatus);
    if (status == "2" || status == "3" || status == "4") {
      reading_.left_out("a part of a job, whose whole has a line of its own");
      return true;
    }
    if (is_unknown(fields.at(kRunTime))) {
      reading_.left_out(status == "5" ? "cancelled before it ran" : "no run time recorded");
      return true;
    }
    if (status == "5" && number_of(fields.at(kRunTime)) == 0.0) {
      reading_.left_out("cancelled before it ran");
      return true;
    }
    const auto processors = processors_of(fields);
    if (!processors) return true;
    if (*processors == 0) {
      reading_.left_out("no number of processors recorded");
      return true;
    }
    return add(fields, *processors);
  }

  // As asked for; as it got where that is not known. 0: neither is. Nothing: a finding.
  std::optional<double> processors_of(const Fields& fields) {
    for (const Field field : {kRequestedProcessors, kAllocatedProcessors}) {
      if (is_unknown(fields.at(field))) continue;
      const auto processors =
          reading_.amount(field == kRequestedProcessors ? "field 8, requested processors"
                                                        : "field 5, allocated processors",
                          fields.at(field), kAmountMax);
      if (!processors || *processors > 0) return processors;
    }
    return 0;
  }

  bool add(const Fields& fields, double processors) {
    const auto submit = reading_.instant("field 2, submission", fields.at(kSubmit));
    if (!submit) return true;
    const auto duration = reading_.length("field 4, run time", fields.at(kRunTime));
    if (!duration) return true;
    Job job{.submit_ms = *submit,
            .duration_ms = *duration,
            .cpu_milli = static_cast<std::uint64_t>(std::llround(processors * 1000)),
            .id = std::string(fields.at(kNumber))};
    if (!is_unknown(fields.at(kRequestedTime))) {
      const auto limit = reading_.length("field 9, requested time", fields.at(kRequestedTime));
      if (!limit) return true;
      job.limit_ms = *limit;
    }
    if (!is_unknown(fields.at(kRequestedMemory))) {
      const auto kib =
          reading_.amount("field 10, requested memory", fields.at(kRequestedMemory), 1e9);
      if (!kib) return true;
      job.memory_bytes = static_cast<std::uint64_t>(std::min(*kib * 1024 * processors, kBytesMax));
    }
    const auto user = reading_.user(fields.at(kUser));
    if (!user) return true;
    const auto account = reading_.account(fields.at(kGroup));
    if (!account) return true;
    job.user = *user;
    job.account = *account;
    return reading_.add(std::move(job));
  }

  Reading& reading_;
  std::uint64_t longer_ = 0;
  std::uint64_t preceded_ = 0;
};

}  // namespace

void read_swf_comment(Reading& reading, std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string_view key = trim(line.substr(0, colon));
  std::string_view value = trim(line.substr(colon + 1));
  value = value.substr(0, value.find_first_of(" \t("));
  const auto number = number_of(value);
  if (!number || *number < 1) return;
  if (key == "MaxProcs" && *number <= kAmountMax)
    reading.trace().processors = static_cast<std::uint64_t>(*number);
  if (key == "UnixStartTime" && *number <= static_cast<double>(kInstantMsMax / 1000)) {
    reading.trace().origin_ms = std::llround(*number) * 1000;
    reading.trace().dated = true;
  }
}

Result<void> read_swf(Reading& reading, std::string line) {
  SwfReader reader(reading);
  do {
    const std::string_view text = trim(line);
    if (text.starts_with(';') || text.starts_with('#'))
      read_swf_comment(reading, text.substr(1));
    else if (!text.empty() && !reader.take(text))
      break;
  } while (!reading.enough() && LOAM_TRY(reading.lines_.next(line)));
  reader.finish();
  return {};
}

}  // namespace loam::sim
