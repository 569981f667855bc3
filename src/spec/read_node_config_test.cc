#include <gtest/gtest.h>

#include "spec/node_config.h"

namespace loam::spec {
namespace {

std::string problems_of(std::string_view text) {
  const NodeConfigResult result = read_node_config(text);
  EXPECT_EQ(result.config.has_value(), result.problems.empty());
  return format_problems("node.yaml", result.problems);
}

TEST(ReadNodeConfig, ReservesWhatItSays) {
  const auto config = read_node_config("reserve: {cpus: 0.5, memory: 2GiB}\n").config;
  ASSERT_TRUE(config);
  EXPECT_EQ(config->reserve.cpu_milli, 500U);
  EXPECT_EQ(config->reserve.memory_bytes, 2ULL << 30);
  EXPECT_EQ(to_json(*config)["reserve"]["cpu_milli"].as_int(), 500);
}

TEST(ReadNodeConfig, NothingIsAllDefaults) {
  for (const char* text : {"", "# only a comment\n", "{}\n", "---\n"}) {
    const auto config = read_node_config(text).config;
    ASSERT_TRUE(config) << text;
    EXPECT_EQ(config->reserve.memory_bytes, 0U);
  }
}

TEST(ReadNodeConfig, ProblemsNamePlaceFindingAndSpelling) {
  EXPECT_EQ(problems_of("reserv: {}\n"),
            "node.yaml:1:1: reserv: unknown key; did you mean 'reserve'?\n");
  EXPECT_EQ(problems_of("reserve:\n  memroy: 2GiB\n  cpus: two\n"),
            "node.yaml:2:3: reserve.memroy: unknown key; did you mean 'memory'?\n"
            "node.yaml:3:9: reserve.cpus: expected a number from 0 to 4096, found the text 'two'\n");
  EXPECT_EQ(problems_of("- reserve\n"),
            "node.yaml:1:1: expected a map of keys such as `reserve: {memory: 2GiB}`, found a list\n");
}

TEST(ReadNodeConfig, KeysOfLoamYamlAreNotSentThere) {
  // "it belongs under resources:" would send the reader to a place that this file does not have.
  EXPECT_EQ(problems_of("memory: 2GiB\n"),
            "node.yaml:1:1: memory: unknown key; expected one of reserve, devices, gpus, queue, accounts, users, admins, listen\n");
}

TEST(ReadNodeConfig, DevicesInTheirThreeForms) {
  const auto config = read_node_config(
      "devices:\n"
      "  licence-x: 3\n"
      "  camera: [/dev/video0, /dev/video1]\n"
      "  fpga: {units: [[/dev/a0, /dev/b0], /dev/a1], common: /dev/ctl, model: 250, memory: 64GiB}\n"
      "  seat: {count: 2}\n").config;
  ASSERT_TRUE(config);
  ASSERT_EQ(config->devices.size(), 4U);
  EXPECT_EQ(config->devices[0].units, std::vector<std::vector<std::string>>(3));
  EXPECT_EQ(config->devices[1].units, (std::vector<std::vector<std::string>>{{"/dev/video0"}, {"/dev/video1"}}));
  const DeclaredDevice& fpga = config->devices[2];
  EXPECT_EQ(fpga.units[0], (std::vector<std::string>{"/dev/a0", "/dev/b0"}));
  EXPECT_EQ(fpga.common, std::vector<std::string>{"/dev/ctl"});
  EXPECT_EQ(fpga.model, "250");
  EXPECT_EQ(fpga.memory_bytes, 64ULL << 30);
  EXPECT_EQ(config->devices[3].units.size(), 2U);
}

TEST(ReadNodeConfig, DevicesThatCannotBe) {
  EXPECT_EQ(problems_of("devices: {gpu: 1, cpus: 2}\n"),
            "node.yaml:1:11: devices.gpu: is the name of something else that jobs ask for; choose another\n"
            "node.yaml:1:19: devices.cpus: is the name of something else that jobs ask for; choose another\n");
  EXPECT_EQ(problems_of("devices: {a: 0}\n"),
            "node.yaml:1:14: devices.a: 0 is out of range; expected a whole number from 1 to 1024\n");
  EXPECT_EQ(problems_of("devices:\n  a: [/dev/null]\n  b: [/etc/passwd]\n  c: [[]]\n  d: []\n"),
            "node.yaml:2:7: devices.a[0]: '/dev/null' is in every job's /dev; it cannot be handed out\n"
            "node.yaml:3:7: devices.b[0]: '/etc/passwd' does not lie below /dev\n"
            "node.yaml:4:7: devices.c[0]: is an empty list; a unit without nodes is counted: write count: N instead\n"
            "node.yaml:5:6: devices.d: is an empty list; expected at least one unit\n");
  EXPECT_EQ(problems_of("devices: {a: {count: 2, units: [/dev/x]}, b: {modle: y}}\n"),
            "node.yaml:1:15: devices.a.count: cannot stand beside units:, whose length is the count\n"
            "node.yaml:1:43: devices.b.count: is missing; expected how many there are, or units:\n"
            "node.yaml:1:47: devices.b.modle: unknown key; did you mean 'model'?\n");
  EXPECT_EQ(problems_of("devices:\n  a: [/dev/x]\n  b: {units: [/dev/x, /dev/y], common: /dev/y}\n"),
            "node.yaml:3:3: devices.b: '/dev/x' is a node of another unit of 'a'; one that several need is common:\n"
            "node.yaml:3:3: devices.b: '/dev/y' is common: and also a unit's of 'b'\n");
}

TEST(ReadNodeConfig, QueueRulesThatCannotBe) {
  EXPECT_EQ(problems_of("queue: {half_live: 7d, reservations: 0, weights: {gpu: 1}}\n"),
            "node.yaml:1:9: queue.half_live: unknown key; did you mean 'half_life'?\n"
            "node.yaml:1:38: queue.reservations: 0 is out of range; expected a whole number from 1 to 64\n"
            "node.yaml:1:51: queue.weights.gpu: unknown key; did you mean 'gpus'?\n");
  EXPECT_EQ(problems_of("queue: {half_life: 7, user_quota: {devices: {licence-y: 1}}}\ndevices: {licence-x: 1}\n"),
            "node.yaml:1:1: queue.user_quota: devices: 'licence-y' is not declared under devices: of this "
            "file; did you mean 'licence-x'?\n"
            "node.yaml:1:20: queue.half_life: '7' has no unit; expected a duration such as 30s, 5ms or 1h; did you "
            "mean '7s'?\n");
  EXPECT_EQ(problems_of("accounts:\n  vision: {shares: 0, members: [anna, anna, \"a b\"]}\n  17: {}\n"),
            "node.yaml:2:20: accounts.vision.shares: 0 is out of range; expected a whole number from 1 to 1000000\n"
            "node.yaml:2:39: accounts.vision.members[1]: 'anna' is listed twice\n"
            "node.yaml:2:45: accounts.vision.members[2]: 'a b' is no user's name\n"
            "node.yaml:3:3: accounts.17: '17' has digits only, as the numbers of runs; add a letter\n");
  EXPECT_EQ(problems_of("accounts: {vision: {quota: {store: 5GiB}}}\n"),
            "node.yaml:1:28: accounts.vision.quota: store: what is kept counts for users alone; name it in "
            "users.NAME.quota or queue.user_quota\n");
  EXPECT_EQ(problems_of("accounts: {vision: {members: [ben]}}\n"
                        "users:\n  anna: {account: vision}\n  ben: {account: visoin}\n"),
            "node.yaml:3:3: users.anna.account: 'anna' is no member of account 'vision'\n"
            "node.yaml:4:3: users.ben.account: 'visoin' is none of accounts:; did you mean 'vision'?\n");
}

TEST(ReadNodeConfig, GpusAreFoundButForTheirLibraryAndWhoMayUseThem) {
  const auto config =
      read_node_config("gpus: {library: /opt/libnvidia-ml.so.1, ignore: [Xorg, nvidia-persistenced]}\n").config;
  ASSERT_TRUE(config);
  EXPECT_EQ(config->gpus.library, "/opt/libnvidia-ml.so.1");
  EXPECT_EQ(config->gpus.ignore, (std::vector<std::string>{"Xorg", "nvidia-persiste"}));  // as the kernel has it
  EXPECT_EQ(config->gpus.cdi, (std::vector<std::string>{"/etc/cdi", "/var/run/cdi"}));
  EXPECT_EQ(read_node_config("gpus: {cdi: [/opt/cdi]}\n").config->gpus.cdi,
            std::vector<std::string>{"/opt/cdi"});
  EXPECT_EQ(config->gpus.time_slices, 1U);
  EXPECT_EQ(read_node_config("gpus: {time_slices: 4}\n").config->gpus.time_slices, 4U);
  EXPECT_NE(problems_of("gpus: {time_slices: 100}\n").find("1 to 64"), std::string::npos);
  EXPECT_EQ(to_json(*config)["gpus"]["library"].as_string(), "/opt/libnvidia-ml.so.1");
  EXPECT_EQ(problems_of("gpus: {library: lib.so, ignore: [/usr/bin/Xorg], count: 2}\n"),
            "node.yaml:1:17: gpus.library: 'lib.so' is not absolute; expected the file of the driver's "
            "libnvidia-ml.so.1, from '/' on and without '..'\n"
            "node.yaml:1:34: gpus.ignore[0]: '/usr/bin/Xorg' is a path; expected a program's name as ps -o comm "
            "shows it\n"
            "node.yaml:1:50: gpus.count: unknown key; expected one of library, cdi, ignore, time_slices\n");
}

TEST(ReadNodeConfig, ListensWithTlsOrOnLoopback) {
  const auto config = read_node_config(
      "listen: {address: '[::]:8443', certificate: /etc/a.crt, key: /etc/a.key}\n").config;
  ASSERT_TRUE(config && config->listen);
  EXPECT_EQ(config->listen->host, "::");
  EXPECT_EQ(config->listen->port, 8443);
  EXPECT_TRUE(read_node_config("listen: {address: 127.0.0.1:80}\n").config);
  EXPECT_TRUE(read_node_config("listen: {address: '[::1]:80'}\n").config);
  for (const char* open : {"0.0.0.0:80", "10.0.0.1:80", "'[::]:80'", "'[::ffff:127.0.0.1]:80'"})
    EXPECT_NE(problems_of(std::string("listen: {address: ") + open + "}\n").find("cross the network"),
              std::string::npos) << open;
  for (const char* wrong : {"localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "':80'"})
    EXPECT_NE(problems_of(std::string("listen: {address: ") + wrong + "}\n").find("is no address and port"),
              std::string::npos) << wrong;
  EXPECT_EQ(problems_of("listen: {address: 127.0.0.1:80, key: /a}\n"),
            "node.yaml:1:38: listen.key: stands alone; expected certificate: beside it\n");
}

TEST(ReadNodeConfig, AdminsAreNamesOrLists) {
  const auto config = read_node_config("admins: {groups: loam-admin, users: [anna, ben, anna]}\n").config;
  ASSERT_TRUE(config);
  EXPECT_EQ(config->admins.groups, std::vector<std::string>{"loam-admin"});
  EXPECT_EQ(config->admins.users, (std::vector<std::string>{"anna", "ben"}));
  EXPECT_EQ(problems_of("admins: loam-admin\n"),
            "node.yaml:1:9: admins: expected a map such as {groups: loam-admin}, found the text 'loam-admin'\n");
  EXPECT_EQ(problems_of("admins: {group: wheel, users: [a/b, 3]}\n"),
            "node.yaml:1:10: admins.group: unknown key; did you mean 'groups'?\n"
            "node.yaml:1:32: admins.users[0]: 'a/b' cannot be such a name\n"
            "node.yaml:1:37: admins.users[1]: expected the name of a user, found the number 3; put it in "
            "quotes where it is meant as text\n");
}

}  // namespace
}  // namespace loam::spec
