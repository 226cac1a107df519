//! Tests of the whole: real daemons, real disks, `kill -9`. Each file is one thing that has to hold.
//!
//! `QUEUE_TESTS_LONG=1` runs each in its long setting; see `harness::settings`.

mod attacks;
mod bad_input;
mod bench;
mod bound;
mod clients;
mod commands;
mod damage;
mod dev;
mod errors;
mod failover;
mod gateway;
mod golden;
mod groups;
mod health;
mod help;
mod http;
mod isolated;
mod kill_all;
mod lagging_node;
mod locked_out;
mod logs;
mod members;
mod moves;
mod ordinary;
mod outage;
mod parked;
mod privacy;
mod readme;
mod recover;
mod relays;
mod repeated_pop;
mod rotation;
mod schedules;
mod slow_disk;
mod space;
mod stages;
mod start;
mod state_hash;
mod stores;
mod supervised;
mod terminal;
mod tls;
mod upgrade;
mod work;
