// "Replies to changes are sent after the turn's commit": holds back what a handler answers until
// what it wrote in this turn is durable. A turn that wrote nothing answers at once.
#pragma once

#include "node/database.h"
#include "node/http_server.h"

namespace loam::node {

ResponderPtr committed(Database& database, ResponderPtr inner);

}  // namespace loam::node
