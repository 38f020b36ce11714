package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -nostdinc -fno-stack-protector" -target bpfel -type bucket -type endpoint -type event -type family -type hot -type small_entry -type large_entry -type reason -type recursion -type join -type join_key -type route -type route_key -type neighbour_key -type settings -type sighting -type snapshot -type flight -type ways -type budget -type prefix kdht xdp/kdht.c
