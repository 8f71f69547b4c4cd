// A linear layer along the last axis: of every row of INPUTS values, OUTPUTS sums of weight[o][i] * x[i].
//
// Each event adds one column of the weights to the sums of its row, within one clock. A layer's turn passes
// the sums on and clears them.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // one clock adds to many sums, one after the other
/* verilator lint_off UNDRIVEN */  // the weight memory is filled by the bench, with $readmemh

module linear #(
    parameter X_BITS = 2,
    parameter WEIGHT_BITS = 8,
    parameter BIPOLAR = 0,  // weights of one bit: 0 is -1, 1 is +1
    parameter BITS = 16,
    parameter ROWS = 1,
    parameter INPUTS = 1,
    parameter OUTPUTS = 1
) (
    input        clock,
    input        start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of output `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    reg signed [WEIGHT_BITS-1:0] weight [0:OUTPUTS*INPUTS-1];
    reg signed [BITS-1:0]        sum    [0:ROWS*OUTPUTS-1];

    integer i, from, to, o;

    always @(posedge clock) begin
        if (start) for (i = 0; i < ROWS * OUTPUTS; i = i + 1) sum[i] = 0;

        if (in_valid) begin
            from = in_address % INPUTS;
            to = in_address / INPUTS * OUTPUTS;
            for (o = 0; o < OUTPUTS; o = o + 1) begin
                if (BIPOLAR) sum[to] = weight[from] ? sum[to] + in_value : sum[to] - in_value;
                else sum[to] = sum[to] + weight[from] * in_value;
                from = from + INPUTS;
                to = to + 1;
            end
        end

        out_valid <= 0;
        if (turn) begin
            out_valid <= sum[index] !== 0;
            out_address <= index;
            out_value <= sum[index];
            sum[index] = 0;
        end
    end
endmodule
