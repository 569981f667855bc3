#include "node/tokens.h"

#include <grp.h>
#include <pwd.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::string_view kPrefix = "loam_";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kTokenBytesMax = 128;
constexpr std::int64_t kKnownMs = 60'000;
constexpr std::int64_t kUsedStepMs = 60'000;  // a use is written down once a minute
constexpr const char* kColumns = "id, uid, name, scope, created_ms, expires_ms, used_ms";

Result<std::string> random_hex() {
  std::array<unsigned char, kSecretBytes> bytes{};
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("getrandom");
    done += static_cast<std::size_t>(count);
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const unsigned char byte : bytes) hex += {kDigits[byte >> 4], kDigits[byte & 15]};
  return hex;
}

// Looks at every byte, whatever the first ones say: the time tells nothing of where they differ.
bool same(std::string_view a, std::string_view b) {
  unsigned differences = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    differences |= static_cast<unsigned>(a[i] ^ b[i]);
  return differences == 0;
}

TokenRow row_from(const Row& row) {
  TokenRow token;
  token.id = row.integer(0);
  token.uid = static_cast<std::uint32_t>(row.integer(1));
  token.name = row.text(2);
  token.scope = scope_named(row.text(3)).value_or(Scope::none);
  token.created_ms = row.integer(4);
  token.expires_ms = row.integer(5);
  token.used_ms = row.integer(6);
  return token;
}

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Of an IPv6 network everybody has 2^64 addresses: the network counts.
std::string place_of(const std::string& address) {
  if (address.find('.') != std::string::npos || address.find(':') == std::string::npos) return address;
  const auto parts = split(address, ':');
  std::string place;
  for (std::size_t i = 0; i < parts.size() && i < 4 && !parts[i].empty(); ++i) place += parts[i] + ":";
  return place;
}

Json time_or_null(std::int64_t ms) { return ms == 0 ? Json() : Json(ms); }

}  // namespace

std::string_view scope_name(Scope scope) {
  switch (scope) {
    case Scope::read:
      return "read";
    case Scope::submit:
      return "submit";
    case Scope::admin:
      return "admin";
    case Scope::none:
      break;
  }
  return "none";
}

Result<Scope> scope_named(std::string_view name) {
  for (const Scope scope : {Scope::read, Scope::submit, Scope::admin})
    if (scope_name(scope) == name) return scope;
  return fail(ErrorCode::invalid, "scope: expected read, submit or admin");
}

Json to_json(const TokenRow& row) {
  return Json::object({{"id", row.id},
                       {"name", row.name},
                       {"scope", scope_name(row.scope)},
                       {"created_ms", row.created_ms},
                       {"expires_ms", time_or_null(row.expires_ms)},
                       {"used_ms", time_or_null(row.used_ms)}});
}

Result<Tokens::Made> Tokens::create(TokenRow wanted) {
  const auto existing = of_user(wanted.uid);
  if (existing.size() >= kTokensOfUserMax)
    return fail(ErrorCode::full, "you have 100 tokens; revoke some: loam token ls");
  for (const TokenRow& row : existing)
    if (row.name == wanted.name)
      return fail(ErrorCode::exists, "you have a token '" + printable(wanted.name) +
                                         "'; choose another name, or revoke it: loam token revoke " +
                                         printable(wanted.name));
  const std::string secret = LOAM_TRY(random_hex());
  wanted.created_ms = wall_ms();
  wanted.id = database_.insert(
      "INSERT INTO tokens(uid, name, scope, hash, created_ms, expires_ms, used_ms) "
      "VALUES(?,?,?,?,?,?,0)",
      {std::int64_t{wanted.uid}, wanted.name, std::string(scope_name(wanted.scope)),
       sha256_of(secret).hex(), wanted.created_ms, wanted.expires_ms});
  return Made{wanted, std::string(kPrefix) + std::to_string(wanted.id) + "_" + secret};
}

std::vector<TokenRow> Tokens::of_user(std::uint32_t uid) {
  std::vector<TokenRow> rows;
  for (const Row& row : database_.query(
           std::string("SELECT ") + kColumns + " FROM tokens WHERE uid=? ORDER BY id",
           {std::int64_t{uid}}))
    rows.push_back(row_from(row));
  return rows;
}

Result<std::int64_t> Tokens::revoke(std::uint32_t uid, const std::string& which) {
  std::vector<std::string> names;
  for (const TokenRow& row : of_user(uid)) {
    names.push_back(row.name);
    if (row.name != which && std::to_string(row.id) != which) continue;
    database_.write("DELETE FROM tokens WHERE id=?", {row.id});
    return row.id;
  }
  const std::string near = nearest(which, names);
  return fail(ErrorCode::not_found, "you have no token '" + printable(which) + "'" +
                                        (near.empty() ? " (see: loam token ls)"
                                                      : "; did you mean '" + near + "'?"));
}

Result<Caller> Tokens::admit(std::string_view token, const std::string& address,
                             std::int64_t now_ms) {
  const auto refused = [&] { return tl::unexpected(failed(address, now_ms)); };
  if (token.size() > kTokenBytesMax || !token.starts_with(kPrefix)) return refused();
  token.remove_prefix(kPrefix.size());
  const auto split_at = token.find('_');
  const auto id = number_in(token.substr(0, split_at));
  if (split_at == std::string_view::npos || !id) return refused();
  const auto rows = database_.query(
      std::string("SELECT ") + kColumns + ", hash FROM tokens WHERE id=?", {*id});
  const std::string hash = sha256_of(token.substr(split_at + 1)).hex();
  if (rows.empty() || !same(hash, rows[0].text(7))) return refused();
  const TokenRow row = row_from(rows[0]);
  // Whoever has it is told what is the matter: it is no guess.
  if (row.expires_ms != 0 && row.expires_ms <= now_ms)
    return fail(ErrorCode::denied, "the token '" + row.name + "' expired at " +
                                       format_time(row.expires_ms) + "; make another: loam token create");
  auto caller = caller_of(row, now_ms);
  if (caller && now_ms - row.used_ms >= kUsedStepMs)
    database_.write("UPDATE tokens SET used_ms=? WHERE id=?", {now_ms, row.id});
  return caller;
}

// With his groups as they are now: a token has never more rights than its user.
Result<Caller> Tokens::caller_of(const TokenRow& row, std::int64_t now_ms) {
  Known& known = known_[row.uid];
  if (known.until_ms <= now_ms) {
    char buffer[16 << 10];
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(row.uid, &entry, buffer, sizeof buffer, &found) != 0 || found == nullptr) {
      known_.erase(row.uid);
      return fail(ErrorCode::denied, "the token's user is no longer one of this machine");
    }
    std::vector<gid_t> groups(64);
    int count = static_cast<int>(groups.size());
    while (::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) < 0)
      groups.resize(static_cast<std::size_t>(count) + 1), count = static_cast<int>(groups.size());
    groups.resize(static_cast<std::size_t>(count));
    known.caller.uid = row.uid;
    known.caller.gid = entry.pw_gid;
    known.caller.groups = groups;
    known.until_ms = now_ms + kKnownMs;
  }
  Caller caller = known.caller;
  caller.token = row.id;
  caller.scope = row.scope;
  return caller;
}

// Who comes from a thousand addresses is not to fill the disk with it.
void Tokens::tell(const std::string& text, std::int64_t now_ms) {
  if (now_ms - told_.since_ms >= kFailureWindowMs) told_ = {now_ms, 0};
  if (++told_.count <= kFailureLinesMax) log_warning(text);
  if (told_.count == kFailureLinesMax) log_warning("more wrong tokens are not told within this minute");
}

Error Tokens::failed(const std::string& address, std::int64_t now_ms) {
  if (failures_.size() >= kFailedAddressesMax)
    std::erase_if(failures_, [&](const auto& one) {
      return now_ms - one.second.since_ms >= kFailureWindowMs;
    });
  if (failures_.size() >= kFailedAddressesMax) failures_.clear();
  Failures& failures = failures_[place_of(address)];
  if (now_ms - failures.since_ms >= kFailureWindowMs) failures = {now_ms, 0};
  ++failures.count;
  if (failures.count == 1) tell("a wrong token from " + printable(address), now_ms);
  if (failures.count == kFailuresFree + 1)
    tell("more than " + std::to_string(kFailuresFree) + " wrong tokens within a minute from " +
             printable(address), now_ms);
  if (failures.count > kFailuresFree)
    return {ErrorCode::busy, "too many wrong tokens from this address; wait a minute"};
  return {ErrorCode::denied, "this token is unknown, or was revoked; expected the header "
                             "'Authorization: Bearer TOKEN' with one of `loam token create`"};
}

}  // namespace loam::node
