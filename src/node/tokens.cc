#include "node/tokens.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "base/or_null.h"
#include "base/sha256.h"
#include "base/text.h"
#include "node/address.h"

namespace loam::node {
namespace {

constexpr std::string_view kPrefix = "loam_";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kTokenBytesMax = 128;
constexpr std::int64_t kKnownMs = 60'000;
constexpr std::int64_t kUsedStepMs = 60'000;  // a use is written down once a minute
constexpr const char* kColumns = "id, uid, name, scope, created_ms, expires_ms, used_ms, user";

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
  token.user = row.text(7);
  return token;
}

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

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
      "INSERT INTO tokens(uid, user, name, scope, hash, created_ms, expires_ms, used_ms) "
      "VALUES(?,?,?,?,?,?,?,0)",
      {std::int64_t{wanted.uid}, wanted.user, wanted.name, std::string(scope_name(wanted.scope)),
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

std::optional<TokenRow> Tokens::row_of(std::string_view token) {
  if (token.size() > kTokenBytesMax || !token.starts_with(kPrefix)) return std::nullopt;
  token.remove_prefix(kPrefix.size());
  const auto split_at = token.find('_');
  const auto id = number_in(token.substr(0, split_at));
  if (split_at == std::string_view::npos || !id) return std::nullopt;
  const auto rows = database_.query("SELECT hash FROM tokens WHERE id=?", {*id});
  const std::string hash = sha256_of(token.substr(split_at + 1)).hex();
  if (rows.empty() || !same(hash, rows[0].text(0))) return std::nullopt;
  return row_numbered(*id);
}

std::optional<TokenRow> Tokens::row_numbered(std::int64_t id) {
  const auto rows =
      database_.query(std::string("SELECT ") + kColumns + " FROM tokens WHERE id=?", {id});
  return rows.empty() ? std::nullopt : std::optional(row_from(rows[0]));
}

void Tokens::admit(std::string_view token, const std::string& address, Answer answer) {
  const Now now = clock_();
  const auto row = row_of(token);
  if (!row) return answer(tl::unexpected(failed(address, now.steady_ms)));
  // Whoever has it is told what is the matter: it is no guess.
  if (row->expires_ms != 0 && row->expires_ms <= now.wall_ms)
    return answer(fail(ErrorCode::denied,
                       "the token '" + row->name + "' expired at " + format_time(row->expires_ms) +
                           "; make another: loam token create"));
  const auto known = known_.find(row->uid);
  // Where the names differ, what is known may be of somebody before him.
  if (known != known_.end() && now.steady_ms - known->second.since_ms < kKnownMs &&
      (row->user.empty() || row->user == known->second.member.user.name))
    return answer(caller_of(*row, known->second.member));
  look_up_(row->uid, [this, row = *row, answer = std::move(answer)](Result<Member> member) {
    found(row, std::move(member), answer);
  });
}

void Tokens::found(const TokenRow& row, Result<Member> member, const Answer& answer) {
  known_.erase(row.uid);
  if (!member && member.error().code == ErrorCode::not_found)
    return answer(fail(ErrorCode::denied, "the token's user is no longer one of this machine"));
  if (!member) return answer(tl::unexpected(std::move(member.error())));
  const auto now = row_numbered(row.id);  // it may have been revoked meanwhile
  if (!now) return answer(fail(ErrorCode::denied, "this token was revoked"));
  known_[row.uid] = {*member, clock_().steady_ms};
  answer(caller_of(*now, *member));
}

// With his groups as they are now: a token has never more rights than its user.
Result<Caller> Tokens::caller_of(TokenRow row, const Member& member) {
  if (row.user.empty()) {
    row.user = member.user.name;
    database_.write("UPDATE tokens SET user=? WHERE id=?", {row.user, row.id});
  }
  if (row.user != member.user.name)
    return fail(ErrorCode::denied, "the token's user '" + printable(row.user) +
                                       "' is no longer one of this machine: his number is now that of '" +
                                       printable(member.user.name) + "'");
  const std::int64_t now_ms = clock_().wall_ms;
  if (now_ms - row.used_ms >= kUsedStepMs || now_ms < row.used_ms)
    database_.write("UPDATE tokens SET used_ms=? WHERE id=?", {now_ms, row.id});
  return Caller{.uid = row.uid,
                .gid = member.user.gid,
                .groups = member.groups,
                .token = row.id,
                .token_until_ms = row.expires_ms,
                .scope = row.scope};
}

Result<Tokens::Member> look_up_member(std::uint32_t uid) {
  Tokens::Member member;
  member.user = LOAM_TRY(look_up_user(uid));
  member.groups = look_up_groups(member.user);
  return member;
}

Tokens::Now token_clock() { return {wall_ms(), boottime_ns() / 1'000'000}; }

// Who comes from a thousand addresses is not to fill the disk with it.
void Tokens::tell(const std::string& text, std::int64_t now_ms) {
  if (told_.count == 0 || told_.over(now_ms)) told_ = {now_ms, 0};
  if (++told_.count <= kFailureLinesMax) log_warning(text);
  if (told_.count == kFailureLinesMax) log_warning("more wrong tokens are not told within this minute");
}

Error Tokens::failed(const std::string& address, std::int64_t now_ms) {
  if (failures_.size() >= kFailedAddressesMax)
    std::erase_if(failures_, [&](const auto& one) { return one.second.over(now_ms); });
  if (failures_.size() >= kFailedAddressesMax) failures_.clear();
  Failures& failures = failures_[network_of(address)];
  if (failures.count == 0 || failures.over(now_ms)) failures = {now_ms, 0};
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
