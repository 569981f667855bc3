// CSV (RFC 4180) with a header that names the columns, in any order; also with semicolons or tabs.
// What the columns may be called is one table: the names that public traces use.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "base/text.h"
#include "sim/reading.h"
#include "sim/values.h"

namespace loam::sim {
namespace {

constexpr std::size_t kColumnsMax = 1000;
constexpr std::size_t kLinesOfARecordMax = 1000;

enum class Field {
  submit,
  start,
  end,
  duration,
  limit,
  cpus,
  gpus,
  memory,
  user,
  account,
  priority,
  preemptible,
  id,
};
constexpr std::size_t kFieldCount = 13;
constexpr const char* kFieldNames[kFieldCount] = {
    "submit", "start", "end",     "duration", "limit",       "cpus", "gpus",
    "memory", "user",  "account", "priority", "preemptible", "id"};

struct Alias {
  const char* name;
  Field field;
  double unit = 1;  // what one of it is: bytes, CPUs
};
constexpr double kKiB = 1024;
constexpr Alias kAliases[] = {
    {"submit", Field::submit},
    {"submit_time", Field::submit},
    {"submitted", Field::submit},
    {"submitted_time", Field::submit},
    {"submission_time", Field::submit},
    {"submit_timestamp", Field::submit},
    {"arrival", Field::submit},
    {"arrival_time", Field::submit},
    {"creation_time", Field::submit},
    {"timestamp", Field::submit},
    {"start", Field::start},
    {"start_time", Field::start},
    {"scheduled_time", Field::start},
    {"end", Field::end},
    {"end_time", Field::end},
    {"finish_time", Field::end},
    {"deletion_time", Field::end},
    {"duration", Field::duration},
    {"run_time", Field::duration},
    {"runtime", Field::duration},
    {"duration_seconds", Field::duration},
    {"elapsed", Field::duration},
    {"limit", Field::limit},
    {"time", Field::limit},
    {"time_limit", Field::limit},
    {"timelimit", Field::limit},
    {"walltime", Field::limit},
    {"requested_time", Field::limit},
    {"cpus", Field::cpus},
    {"cpu", Field::cpus},
    {"cpu_num", Field::cpus},
    {"num_cpus", Field::cpus},
    {"num_cpu", Field::cpus},
    {"processors", Field::cpus},
    {"cores", Field::cpus},
    {"cpu_milli", Field::cpus, 0.001},
    {"gpus", Field::gpus},
    {"gpu", Field::gpus},
    {"gpu_num", Field::gpus},
    {"num_gpus", Field::gpus},
    {"num_gpu", Field::gpus},
    {"memory", Field::memory},
    {"mem", Field::memory},
    {"memory_bytes", Field::memory},
    {"memory_mib", Field::memory, kKiB* kKiB},
    {"memory_mb", Field::memory, 1e6},
    {"memory_gib", Field::memory, kKiB* kKiB* kKiB},
    {"memory_gb", Field::memory, 1e9},
    {"user", Field::user},
    {"user_id", Field::user},
    {"userid", Field::user},
    {"uid", Field::user},
    {"username", Field::user},
    {"account", Field::account},
    {"group", Field::account},
    {"vc", Field::account},
    {"project", Field::account},
    {"priority", Field::priority},
    {"preemptible", Field::preemptible},
    {"id", Field::id},
    {"job_id", Field::id},
    {"jobid", Field::id},
    {"job", Field::id},
};

const Alias* find_alias(const std::string& name) {
  const auto found = std::find_if(std::begin(kAliases), std::end(kAliases),
                                  [&](const Alias& one) { return name == one.name; });
  return found == std::end(kAliases) ? nullptr : found;
}

// "Submit Time" → "submit_time".
std::string as_column_name(std::string_view text) {
  std::string name(trim(text));
  for (char& one : name)
    one = one == ' ' || one == '-'
              ? '_'
              : static_cast<char>(std::tolower(static_cast<unsigned char>(one)));
  return name;
}

// One record's cells. A quoted cell may hold separators, doubled quotes, and line ends: then the
// record goes on in the next line.
class Record {
 public:
  // false: a quote is open at the line's end, more is needed.
  bool add(std::string_view line, char separator) {
    if (open_) cells_.back() += '\n';
    std::size_t at = 0;
    if (!open_) cells_.emplace_back();
    while (at < line.size()) {
      const char one = line[at++];
      if (open_) {
        if (one != '"')
          cells_.back() += one;
        else if (at < line.size() && line[at] == '"')
          cells_.back() += line[at++];
        else
          open_ = false;
      } else if (one == separator) {
        cells_.emplace_back();
      } else if (one == '"' && trim(cells_.back()).empty()) {
        cells_.back().clear();
        open_ = true;
      } else {
        cells_.back() += one;
      }
    }
    return !open_;
  }
  const std::vector<std::string>& cells() const { return cells_; }
  void clear() { cells_.clear(), open_ = false; }

 private:
  std::vector<std::string> cells_;
  bool open_ = false;
};

class CsvReader {
 public:
  explicit CsvReader(Reading& reading) : reading_(reading) { columns_.fill(-1); }

  Result<void> head(const std::string& line) {
    for (const char one : {',', '\t', ';'})
      if (std::count(line.begin(), line.end(), one) >
          std::count(line.begin(), line.end(), separator_))
        separator_ = one;
    Record record;
    if (!record.add(line, separator_)) return wrong_head("a quote is not closed");
    if (record.cells().size() > kColumnsMax) return wrong_head("more than 1000 columns");
    width_ = record.cells().size();
    for (std::size_t i = 0; i < width_; ++i) LOAM_CHECK(take_column(record.cells()[i], i));
    return check_columns();
  }

  // false: no more can be taken.
  Result<bool> take(std::string& line) {
    record_.clear();
    for (std::size_t lines = 1; !record_.add(line, separator_); ++lines) {
      const bool more = lines < kLinesOfARecordMax && LOAM_TRY(reading_.lines_.next(line));
      if (more) continue;
      reading_.finding("a quote is opened and not closed; expected its end in this record");
      return false;
    }
    if (record_.cells().size() != width_) {
      reading_.finding("found " + std::to_string(record_.cells().size()) + " fields, expected " +
                       std::to_string(width_) + ", as in the header");
      return true;
    }
    return take_job();
  }

  void finish() {
    if (!unknown_columns_.empty())
      reading_.note("columns that say nothing here are left out: " + join(unknown_columns_, ", "));
    if (!has(Field::user)) reading_.note("no column names users: all jobs are taken as one user's");
    if (!has(Field::duration)) reading_.note("no column 'duration': it is end less start");
    if (rounded_ > 0)
      reading_.note("jobs that ask for over one GPU and a part of another: " +
                    std::to_string(rounded_) + "; the part is taken as a whole one");
  }

 private:
  bool has(Field field) const { return columns_[static_cast<std::size_t>(field)] >= 0; }
  // Without white space around it; "" where there is no such column.
  std::string_view cell(Field field) const {
    const int column = columns_[static_cast<std::size_t>(field)];
    return column < 0 ? std::string_view()
                      : trim(record_.cells()[static_cast<std::size_t>(column)]);
  }

  tl::unexpected<Error> wrong_head(const std::string& text) const {
    return fail(ErrorCode::invalid,
                reading_.lines_.name() + ":" + std::to_string(reading_.lines_.number()) + ": " +
                    text +
                    "; expected a header that names the columns submit, duration, gpus "
                    "and user (docs/simulation.md), or the Standard Workload Format");
  }

  Result<void> take_column(const std::string& text, std::size_t index) {
    const std::string name = as_column_name(text);
    const Alias* alias = find_alias(name);
    if (alias == nullptr) {
      unknown_columns_.push_back(printable(std::string_view(name).substr(0, 40)));
      return {};
    }
    const auto field = static_cast<std::size_t>(alias->field);
    if (columns_[field] >= 0)
      return wrong_head("the columns '" + as_column_name(seen_[field]) + "' and '" + name +
                        "' both say " + kFieldNames[field]);
    columns_[field] = static_cast<int>(index);
    units_[field] = alias->unit;
    seen_[field] = text;
    return {};
  }

  // "no column 'submit'", and what may have been meant by it.
  tl::unexpected<Error> missing(const std::string& text, const std::string& column) const {
    const std::string near = nearest(column, unknown_columns_);
    return wrong_head(text + (near.empty() ? "" : " (is '" + near + "' meant for it?)"));
  }

  Result<void> check_columns() const {
    if (!has(Field::submit)) return missing("no column 'submit'", "submit");
    if (!has(Field::duration) && !(has(Field::start) && has(Field::end)))
      return missing("no column 'duration', nor both 'start' and 'end'", "duration");
    if (!has(Field::gpus) && !has(Field::cpus))
      return missing("no column 'gpus', nor 'cpus'", "gpus");
    return {};
  }

  bool take_job() {
    const bool timed = has(Field::duration)
                           ? !is_unknown(cell(Field::duration))
                           : !is_unknown(cell(Field::start)) && !is_unknown(cell(Field::end));
    if (!timed) {
      reading_.left_out("no run time recorded");
      return true;
    }
    Job job;
    if (!take_times(job) || !take_resources(job) || !take_names(job)) return true;
    return reading_.add(std::move(job));
  }

  // These return false where they noted a finding.
  bool take_times(Job& job) {
    const auto submit = reading_.instant("submit", cell(Field::submit));
    if (!submit) return false;
    job.submit_ms = *submit;
    if (reading_.trace().jobs.empty()) reading_.trace().dated = is_date(cell(Field::submit));
    std::optional<std::int64_t> duration;
    if (has(Field::duration)) {
      duration = reading_.length("duration", cell(Field::duration));
    } else if (const auto start = reading_.instant("start", cell(Field::start))) {
      const auto end = reading_.instant("end", cell(Field::end));
      if (end && (*end < *start || *end - *start > kLengthMsMax))
        reading_.finding("end: found '" + printable(cell(Field::end)) +
                         "', expected it after start, within 10 years");
      else if (end)
        duration = *end - *start;
    }
    if (!duration) return false;
    job.duration_ms = *duration;
    if (is_unknown(cell(Field::limit))) return true;
    const auto limit = reading_.length("limit", cell(Field::limit));
    job.limit_ms = limit.value_or(0);
    return limit.has_value();
  }

  // Thousandths. 0 where none was recorded.
  std::optional<std::uint64_t> thousandths(Field field) {
    if (is_unknown(cell(field))) return 0;
    const auto index = static_cast<std::size_t>(field);
    const auto value = reading_.amount(kFieldNames[index], cell(field), kAmountMax);
    if (!value) return std::nullopt;
    return static_cast<std::uint64_t>(std::ceil(*value * units_[index] * 1000 - 1e-6));
  }

  bool take_resources(Job& job) {
    const auto gpus = thousandths(Field::gpus);
    const auto cpus = gpus ? thousandths(Field::cpus) : std::nullopt;
    if (!cpus) return false;
    job.gpu_milli = *gpus;
    job.cpu_milli = *cpus;
    if (job.gpu_milli > 1000 && job.gpu_milli % 1000 != 0) {
      ++rounded_;
      job.gpu_milli += 1000 - job.gpu_milli % 1000;
    }
    if (is_unknown(cell(Field::memory))) return true;
    const double unit = units_[static_cast<std::size_t>(Field::memory)];
    if (const auto number = number_of(cell(Field::memory)); number && *number >= 0) {
      job.memory_bytes = static_cast<std::uint64_t>(std::min(*number * unit, kBytesMax));
      return true;
    }
    const auto size = parse_size(cell(Field::memory));
    if (!size) reading_.finding("memory: " + size.error().text);
    job.memory_bytes = std::min(size.value_or(0), static_cast<std::uint64_t>(kBytesMax));
    return size.has_value();
  }

  bool take_names(Job& job) {
    const auto user = reading_.user(cell(Field::user));
    const auto account = user ? reading_.account(cell(Field::account)) : std::nullopt;
    if (!account) return false;
    job.user = *user;
    job.account = *account;
    job.id = std::string(cell(Field::id).substr(0, kNameBytesMax));
    if (!is_unknown(cell(Field::priority)) || cell(Field::priority) == "-1") {
      const auto priority = number_of(cell(Field::priority));
      if (!priority || std::abs(*priority) > 1e9 || *priority != std::floor(*priority)) {
        reading_.finding("priority: found '" + printable(cell(Field::priority)) +
                         "', expected a whole number");
        return false;
      }
      job.priority = static_cast<std::int32_t>(*priority);
    }
    return take_preemptible(job);
  }

  bool take_preemptible(Job& job) {
    std::string text(cell(Field::preemptible));
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char one) { return static_cast<char>(std::tolower(one)); });
    job.preemptible = text == "1" || text == "true" || text == "yes";
    if (job.preemptible || is_unknown(text) || text == "0" || text == "false" || text == "no")
      return true;
    reading_.finding("preemptible: found '" + printable(text) + "', expected true or false");
    return false;
  }

  Reading& reading_;
  char separator_ = ',';
  std::size_t width_ = 0;
  std::array<int, kFieldCount> columns_{};
  std::array<double, kFieldCount> units_{};
  std::array<std::string, kFieldCount> seen_;
  std::vector<std::string> unknown_columns_;
  std::uint64_t rounded_ = 0;
  Record record_;
};

}  // namespace

Result<void> read_csv(Reading& reading, std::string line) {
  CsvReader reader(reading);
  LOAM_CHECK(reader.head(line));
  while (!reading.enough() && LOAM_TRY(reading.lines_.next(line))) {
    if (trim(line).empty()) continue;
    if (!LOAM_TRY(reader.take(line))) break;
  }
  reader.finish();
  return {};
}

}  // namespace loam::sim
