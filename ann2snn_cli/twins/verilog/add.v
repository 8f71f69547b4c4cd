// Adds up what several layers send: input k's value of an address is added to the sum of that address.
//
// Each input may pass through a `scale` first, that is its multiplier. A concat is the same sum with
// addresses shifted so that no two inputs meet. A layer's turn passes the sums on and clears them.
//
// Inputs are added step by step of their own trains. An input with fewer populations behind it is ahead of the
// others, by DELAY steps for each that it lacks: what it sends waits here, in the slot of its step, until the
// same step of the last input is in. A ring of SLOTS = 1 + steps ahead is enough. `step` is the step of what
// arrives, and in the layer's turn of what leaves; where several arrive at once, they are of the same step.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // inputs that send at the same clock are added one after the other

module add #(
    parameter SLOTS = 1,  // steps that are held
    parameter NEURONS = 1,
    parameter INPUTS = 2,
    parameter X_BITS = 2,
    parameter BITS = 16
) (
    input        clock,
    input        start,  // of a sample
    input [31:0] step,

    input [INPUTS-1:0]        in_valid,  // of all inputs, the first one lowest
    input [INPUTS*32-1:0]     in_address,
    input [INPUTS*X_BITS-1:0] in_value,

    input        turn,  // of sum `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    reg signed [BITS-1:0] sum [0:SLOTS*NEURONS-1];

    wire [31:0] first = step % SLOTS * NEURONS;  // of the sums of this step
    integer i, k, to;

    always @(posedge clock) begin
        if (start) for (i = 0; i < SLOTS * NEURONS; i = i + 1) sum[i] = 0;

        for (k = 0; k < INPUTS; k = k + 1) begin
            if (in_valid[k]) begin
                to = first + in_address[k*32 +: 32];
                sum[to] = sum[to] + $signed(in_value[k*X_BITS +: X_BITS]);
            end
        end

        out_valid <= 0;
        if (turn) begin
            out_valid <= sum[first + index] !== 0;
            out_address <= index;
            out_value <= sum[first + index];
            sum[first + index] = 0;
        end
    end
endmodule
