// Value i is the input's value `origin[i]`, or 0 where that is -1: slices, flips, padding, upsampling.
//
// The turn of the last value clears what came in.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // what came in is kept in a memory of its own
/* verilator lint_off UNDRIVEN */  // the memory of origins is filled by the bench, with $readmemh

module gather #(
    parameter INPUTS = 1,
    parameter OUTPUTS = 1,
    parameter ORIGIN_BITS = 16,
    parameter X_BITS = 2,
    parameter BITS = 2
) (
    input        clock,
    input        start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of value `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    reg signed [ORIGIN_BITS-1:0] origin [0:OUTPUTS-1];
    reg signed [X_BITS-1:0]      x      [0:INPUTS-1];

    reg signed [X_BITS-1:0] found;
    integer i;

    always @(posedge clock) begin
        if (start) for (i = 0; i < INPUTS; i = i + 1) x[i] = 0;

        if (in_valid) x[in_address] = x[in_address] + in_value;

        out_valid <= 0;
        if (turn) begin
            found = origin[index] < 0 ? 0 : x[origin[index]];
            out_valid <= found !== 0;
            out_address <= index;
            out_value <= found;

            if (index == OUTPUTS - 1) for (i = 0; i < INPUTS; i = i + 1) x[i] = 0;
        end
    end
endmodule
