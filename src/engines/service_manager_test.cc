#include "engines/service_manager.h"

#include <gtest/gtest.h>

#include <map>

namespace loam::engines {
namespace {

Lookup lookup(const std::map<std::string, std::string>& values) {
  return [values](const char* name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  };
}

using Words = std::vector<std::string>;
const Words kPlain{"/opt/loam/bin/loam", "node", "run", "--daemon"};

Words start(unsigned uid, const StartFacts& facts,
            const std::map<std::string, std::string>& environment = {}) {
  return start_command("/opt/loam/bin/loam", uid, lookup(environment), facts);
}

TEST(ServiceManager, WithoutSystemdTheProgramStartsItself) {
  EXPECT_EQ(start(0, {.unit = "[Service]\n"}), kPlain);
  EXPECT_EQ(start(1000, {.unified = true, .own_group = "/"}), kPlain);
}

TEST(ServiceManager, AnInstalledUnitOfTheSameFoldersIsStarted) {
  StartFacts facts{.systemd = true, .unit = "[Service]\n", .unified = true, .own_group = "/x"};
  EXPECT_EQ(start(0, facts), (Words{"systemctl", "start", "loam.service"}));
  EXPECT_EQ(start(1000, facts), (Words{"systemctl", "--user", "start", "loam.service"}));
  // Another state folder is another node.
  EXPECT_EQ(start(0, facts, {{"LOAM_STATE_DIR", "/data/loam"}}), kPlain);
  facts.unit += "Environment=\"LOAM_STATE_DIR=/data/loam\"\n";
  EXPECT_EQ(start(0, facts), kPlain);
  EXPECT_EQ(start(0, facts, {{"LOAM_STATE_DIR", "/data/loam"}}).front(), "systemctl");
}

TEST(ServiceManager, FromALoginSessionAUsersNodeGetsAScope) {
  const StartFacts session{.systemd = true,
                           .unit = "",
                           .unified = true,
                           .own_group = "/user.slice/user-1000.slice/session-3.scope"};
  const Words scoped = start(1000, session);
  EXPECT_EQ(scoped.front(), "systemd-run");
  EXPECT_EQ(Words(scoped.end() - 4, scoped.end()), kPlain);
  EXPECT_EQ(start(0, session), kPlain);
  StartFacts inside = session;
  inside.own_group = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope";
  EXPECT_EQ(start(1000, inside), kPlain);
  StartFacts hybrid = session;
  hybrid.unified = false;
  EXPECT_EQ(start(1000, hybrid), kPlain);
}

TEST(ServiceManager, WordsAreQuotedForSystemd) {
  EXPECT_EQ(systemd_quoted("/opt/a b/100%/$x/\"q\"\\"), R"("/opt/a b/100%%/$x/\"q\"\\")");
}

TEST(ServiceManager, UnitsLieWhereSystemdLooks) {
  EXPECT_EQ(unit_path(0, lookup({})), "/etc/systemd/system/loam.service");
  EXPECT_EQ(unit_path(7, lookup({{"HOME", "/home/a"}})),
            "/home/a/.config/systemd/user/loam.service");
  EXPECT_EQ(unit_path(7, lookup({{"HOME", "/home/a"}, {"XDG_CONFIG_HOME", "/c"}})),
            "/c/systemd/user/loam.service");
}

}  // namespace
}  // namespace loam::engines
